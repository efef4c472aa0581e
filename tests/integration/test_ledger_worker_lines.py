"""What reaches a worker's line, on a real PostgreSQL and RabbitMQ: poison, rubbish, repeats, returns, cancellations."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared import migrate, topology
from shared.amqp import connect_comfortably
from shared.faults import FaultPoint
from shared.ids import Partition
from tests.backends.databases import Database
from tests.contract.conditions import eventually, eventually_async
from tests.integration.ledger_scenes import MAKE, funded, posted_once
from tests.integration.worker import Ledger, ledger_of, signed

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def ledger(database: Database, broker: str, tmp_path: Path) -> AsyncIterator[Ledger]:
    async with ledger_of(database, broker, tmp_path) as ledger:
        yield ledger


async def test_a_command_that_breaks_the_core_is_rejected_and_parked_and_its_neighbours_are_applied_in_order(
    ledger: Ledger,
) -> None:
    alice, bob = await funded(ledger, 0, 0)
    worker = await ledger.start(f"{FaultPoint.WORKER_IN_CORE}:3:raise").ready()
    commands = [MAKE.move(alice, bob, 1 + number) for number in range(5)]
    body, mac = signed(*commands)
    await ledger.publish(0, body, mac=mac)
    [(copy, reason)] = await ledger.parked(1)
    assert copy == body
    assert "the core raised" in reason
    assert [await ledger.outcome(command) for command in commands] == [
        "posted",
        "posted",
        "internal_error",
        "posted",
        "posted",
    ]
    rows = await ledger.rows(
        "SELECT id::text FROM ledger.operations WHERE partition = 0 ORDER BY batch DESC, line DESC LIMIT 5"
    )
    assert [row["id"] for row in rows] == [command.id for command in reversed(commands)]
    assert await worker.metric("ledger_parked_total", reason="poison") == 1
    await ledger.prove()


@pytest.mark.parametrize(
    "change", [{"reference": "\0"}, {"metadata": "\0", "reference": "kept"}, {"principal": "mallory\0"}]
)
async def test_a_command_that_the_database_refuses_is_set_aside_alone(ledger: Ledger, change: dict[str, str]) -> None:
    alice, bob, carol = await funded(ledger, 0, 0, 1)
    await ledger.start().ready()
    commands = [MAKE.move(alice, (bob, carol)[number % 2], 1) for number in range(40)]
    commands[17] = commands[17].model_copy(update=change)
    body, mac = signed(*commands)
    await ledger.publish(0, body, mac=mac)
    [(_, reason)] = await ledger.parked(1)
    assert "the database refused it" in reason
    # Not even its refusal can be written when the principal is at fault; then the parked copy is all there is.
    expected = None if "principal" in change else "internal_error"
    assert [await ledger.outcome(command) for command in commands] == ["posted"] * 17 + [expected] + ["posted"] * 22
    [answer] = await ledger.call(MAKE.move(alice, bob, 1))
    assert answer.outcome.status == "posted"
    await ledger.prove()


async def test_what_is_no_envelope_is_parked_and_its_line_goes_on(ledger: Ledger) -> None:
    alice, bob = await funded(ledger, 0, 1)
    worker = await ledger.start().ready()
    body, mac = signed(MAKE.move(alice, bob, 1))
    rubbish = b'{"v":1,"commands":[{"kind":"transfer.v1"}]}'
    await ledger.publish(0, b"\xff\xfe", mac="00")
    await ledger.publish(0, body)
    await ledger.publish(0, body, mac=mac[::-1])
    await ledger.publish(0, body, mac="é")
    await ledger.publish(0, body, mac=mac, kind="cmd.v9")
    odd, odd_mac = signed(MAKE.move(alice, bob, 1).model_copy(update={"id": "00000000-0000-0000-0000-00000000000g"}))
    await ledger.publish(0, odd, mac=odd_mac)
    await ledger.publish(0, rubbish, mac="00")
    [answer] = await ledger.call(MAKE.move(alice, bob, 10))
    assert answer.outcome.status == "posted"
    parked = await ledger.parked(7)
    assert sorted(reason.split(":")[0] for _, reason in parked) == sorted(
        ["the signature does not verify"] * 5 + ["unknown kind 'cmd.v9'", "not an envelope"]
    )
    assert await worker.metric("ledger_parked_total", reason="unreadable") == 7
    assert await ledger.balance(alice) == 990
    await ledger.prove()


async def test_commands_of_another_workers_partition_reach_it_whichever_queue_they_came_by(ledger: Ledger) -> None:
    everywhere = await funded(ledger, 0, 1, 2, 3)
    workers = [await ledger.start().ready() for _ in range(2)]
    await ledger.owned_by(*workers)
    moves = [MAKE.move(account, everywhere[0], 1) for account in everywhere[1:]]
    repeat = moves[0].model_copy(update={"repeat": True})
    body, mac = signed(MAKE.move(everywhere[0], everywhere[1], 5), *moves, repeat)
    for queue in range(4):
        await ledger.publish(queue, body, mac=mac)

    async def all_are_decided() -> bool:
        return all([await ledger.outcome(move) is not None for move in moves])

    await eventually_async(all_are_decided)
    await posted_once(ledger, *moves)
    assert sum([await worker.metric("ledger_strays_total") for worker in workers]) > 0
    assert await ledger.balance(everywhere[1]) == 1_000 - 1 + 5


async def test_a_repeat_that_nobody_remembers_is_found_by_its_key_and_gets_the_first_outcome(ledger: Ledger) -> None:
    alice, bob = await funded(ledger, 0, 0)
    first = await ledger.start().ready()
    move, refused = MAKE.move(alice, bob, 10, key="k"), MAKE.move(alice, bob, 5_000, key="r")
    await ledger.call(move, refused)
    assert await asyncio.to_thread(first.stop) == 0
    worker = await ledger.start().ready()
    other = MAKE.move(alice, bob, 11, key="k")
    fresh = MAKE.move(alice, bob, 1)
    answers = await ledger.call(move, refused, other, fresh)
    assert [(answer.outcome.code, answer.outcome.replayed) for answer in answers] == [
        (None, True),
        ("insufficient_funds", True),
        ("idempotency_key_reused", False),
        (None, False),
    ]
    assert await worker.metric("ledger_commit_faults_total", fault="RepeatFound") >= 1
    assert await worker.metric("ledger_duplicates_total", found="repeat") == 2
    await posted_once(ledger, move, fresh)


async def test_a_closed_account_takes_no_credit_wherever_it_comes_from(ledger: Ledger) -> None:
    alice, bob, carol = await funded(ledger, 0, 1, 1)
    first = await ledger.start().ready()
    hold = MAKE.hold(alice, 10)
    await ledger.call(hold, MAKE.withdrawal(bob, 1_000), MAKE.close(bob))
    again = [MAKE.move(alice, bob, 10), MAKE.move(carol, bob, 10), MAKE.capture(hold, bob)]
    for command in again:
        [answer] = await ledger.call(command)
        assert answer.outcome.code == "account_closed"
    assert await asyncio.to_thread(first.stop) == 0
    # Nor does it of a worker that must read that it is closed.
    worker = await ledger.start().ready()
    [answer] = await ledger.call(MAKE.move(alice, bob, 10))
    assert answer.outcome.code == "account_closed"
    assert await worker.metric("ledger_transit_returned_total") == 0
    assert await ledger.balance(alice) == await ledger.balance(carol) == 1_000
    await ledger.prove()


async def test_a_queue_deleted_under_its_consumer_is_consumed_again_once_it_is_declared(ledger: Ledger) -> None:
    alice, bob, carol = await funded(ledger, 0, 0, 1)
    worker = await ledger.start().ready()
    await ledger.call(MAKE.move(alice, bob, 1))
    connection = await connect_comfortably(ledger.broker, name="tests")
    async with connection:
        await (await connection.channel()).queue_delete(topology.partition_queue(Partition(0)))
    await eventually(lambda: "channel.failed" in worker.text())
    [answer] = await ledger.call(MAKE.withdrawal(carol, 1))
    assert answer.outcome.status == "posted"
    await migrate.declare_topology(ledger.broker, partitions=4)
    [answer] = await ledger.call(MAKE.move(alice, bob, 1))
    assert answer.outcome.status == "posted"
    await ledger.prove()


async def test_cancelling_an_unknown_ends_it_for_good(ledger: Ledger) -> None:
    alice, bob = await funded(ledger, 0, 0)
    await ledger.start().ready()
    late = MAKE.move(alice, bob, 10)
    decided = MAKE.move(alice, bob, 1)
    await ledger.call(decided)
    [cancelled, too_late] = await ledger.call(MAKE.cancel(late.id), MAKE.cancel(decided.id))
    assert (cancelled.outcome.status, cancelled.outcome.code) == ("rejected", "cancelled")
    assert (too_late.outcome.status, too_late.outcome.replayed) == ("posted", True)
    [answer] = await ledger.call(late)
    assert (answer.outcome.code, answer.outcome.replayed) == ("cancelled", True)
    assert await ledger.balance(alice) == 999
    await ledger.prove()
