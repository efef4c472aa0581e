"""The ledger worker as a process, on a real PostgreSQL and a real RabbitMQ: killed, stopped, misled, and still exact."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared import migrate, topology
from shared.amqp import connect_comfortably
from shared.faults import FaultPoint
from shared.ids import AccountId, Partition
from shared.messages import Command
from tests.backends.databases import Database
from tests.builders import Commands, account_in
from tests.contract.conditions import eventually, eventually_async
from tests.integration.worker import Ledger, ledger_of, signed

MAKE = Commands()
NOT_WRITTEN = (FaultPoint.WORKER_BEFORE_FENCE, FaultPoint.WORKER_IN_BATCH, FaultPoint.WORKER_BEFORE_COMMIT)
WRITTEN = (FaultPoint.WORKER_AFTER_COMMIT, FaultPoint.WORKER_AFTER_ANSWER)
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def ledger(database: Database, broker: str, tmp_path: Path) -> AsyncIterator[Ledger]:
    async with ledger_of(database, broker, tmp_path) as ledger:
        yield ledger


async def funded(ledger: Ledger, *places: int) -> list[AccountId]:
    """One account in each of these partitions, each with 1,000, made by a worker that is gone again."""
    worker = await ledger.start().ready()
    accounts = [account_in(place) for place in places]
    await ledger.call(*(MAKE.open(account) for account in accounts))
    answers = await ledger.call(*(MAKE.deposit(account, 1_000) for account in accounts))
    assert all(answer.outcome.status == "posted" for answer in answers)
    assert await asyncio.to_thread(worker.stop) == 0
    return accounts


async def posted_once(ledger: Ledger, *commands: Command) -> None:
    """Each is in the journal, and the journal holds."""
    for command in commands:
        assert await ledger.outcome(command) == "posted"
    await ledger.prove()


@pytest.mark.parametrize("point", [point for point in FaultPoint if point.startswith("worker.") and point is not FaultPoint.WORKER_IN_CORE])
async def test_a_worker_killed_at_any_point_loses_nothing_and_repeats_nothing(ledger: Ledger, point: FaultPoint) -> None:
    alice, bob, carol = await funded(ledger, 0, 0, 1)
    doomed = await ledger.start(f"{point}:1").ready()
    commands = [MAKE.move(alice, bob, 10), MAKE.move(alice, carol, 20), MAKE.move(carol, bob, 5)]
    sent = [ledger.send(command) for command in commands]
    await doomed.killed()
    # The fault landed where its name says.
    in_journal = [await ledger.outcome(command) for command in commands]
    assert any(in_journal) == (point in WRITTEN)
    # After the answer it may still be in the process's own buffer; before that point nobody was told anything.
    assert point is FaultPoint.WORKER_AFTER_ANSWER or all(each.outcome is None for each in sent)
    successor = await ledger.start().ready()
    answers = [await ledger.answer(each) for each in sent]
    assert [answer.outcome.status for answer in answers] == ["posted"] * 3
    await eventually_async(lambda: everything_acknowledged(ledger))
    assert [await ledger.balance(account) for account in (alice, bob, carol)] == [970, 1_015, 1_015]
    assert await successor.metric("ledger_redelivered_total") >= 1
    if point in WRITTEN:
        assert await successor.metric("ledger_duplicates_total", found="repeat") >= 1
    await posted_once(ledger, *commands)


async def everything_acknowledged(ledger: Ledger) -> bool:
    """Nobody may hold a delivery: a stop would give it back."""
    for worker in ledger.workers:
        if worker.popen.poll() is None and await worker.metric("ledger_oldest_undecided_seconds") > 0:
            return False
    return True


async def test_a_worker_stopped_before_the_fence_is_fenced_when_it_goes_on(ledger: Ledger) -> None:
    alice, bob = await funded(ledger, 0, 1)
    zombie = await ledger.start(f"{FaultPoint.WORKER_BEFORE_FENCE}:1:stop").ready()
    await ledger.owned_by(zombie)
    command = MAKE.move(alice, bob, 10)
    sent = ledger.send(command)
    await zombie.hit()
    heir = await ledger.start().ready()
    await ledger.owned_by(heir)
    zombie.signal(signal.SIGCONT)

    async def fenced() -> bool:
        return await zombie.metric("ledger_fenced_total") >= 1

    await eventually_async(fenced)
    answer = await ledger.answer(sent)
    assert answer.outcome.status == "posted"
    assert answer.is_settled
    await posted_once(ledger, command)


async def test_a_worker_stopped_with_its_batch_open_is_freed_of_its_locks_and_finds_out(ledger: Ledger) -> None:
    alice, bob = await funded(ledger, 0, 1)
    zombie = await ledger.start(f"{FaultPoint.WORKER_BEFORE_COMMIT}:1:stop").ready()
    await ledger.owned_by(zombie)
    command = MAKE.move(alice, bob, 10)
    sent = ledger.send(command)
    await zombie.hit()
    heir = await ledger.start().ready()
    await ledger.owned_by(heir)
    assert await ledger.outcome(command) is None
    zombie.signal(signal.SIGCONT)

    async def unknown() -> bool:
        return await zombie.metric("ledger_commit_faults_total", fault="CommitUnknown") >= 1

    await eventually_async(unknown)
    assert (await ledger.answer(sent)).outcome.status == "posted"
    await posted_once(ledger, command)


async def test_a_silent_owners_partitions_pass_to_another_worker(ledger: Ledger) -> None:
    alice, bob = await funded(ledger, 0, 1)
    one, two = await ledger.start().ready(), await ledger.start().ready()
    await ledger.owned_by(one, two)
    one.signal(signal.SIGSTOP)
    await ledger.owned_by(two)
    # The broker finds out by missed heartbeats; the client waits that long and no longer.
    [answer] = await ledger.call(MAKE.move(alice, bob, 10))
    assert answer.outcome.status == "posted"
    one.signal(signal.SIGCONT)
    await ledger.owned_by(one, two)

    async def lost() -> bool:
        return await one.metric("ledger_lease_changes_total", change="lost") >= 1

    await eventually_async(lost)
    await ledger.call(MAKE.move(bob, alice, 10))
    await ledger.prove()


async def test_a_command_that_breaks_the_core_is_rejected_and_parked_and_its_neighbours_are_applied_in_order(ledger: Ledger) -> None:
    alice, bob = await funded(ledger, 0, 0)
    worker = await ledger.start(f"{FaultPoint.WORKER_IN_CORE}:3:raise").ready()
    commands = [MAKE.move(alice, bob, 1 + number) for number in range(5)]
    body, mac = signed(*commands)
    await ledger.publish(0, body, mac=mac)
    [(copy, reason)] = await ledger.parked(1)
    assert copy == body
    assert "the core raised" in reason
    assert [await ledger.outcome(command) for command in commands] == ["posted", "posted", "internal_error", "posted", "posted"]
    rows = await ledger.rows("SELECT id::text FROM ledger.operations WHERE partition = 0 ORDER BY batch DESC, line DESC LIMIT 5")
    assert [row["id"] for row in rows] == [command.id for command in reversed(commands)]
    assert await worker.metric("ledger_parked_total", reason="poison") == 1
    await ledger.prove()


@pytest.mark.parametrize("change", [{"reference": "\0"}, {"metadata": "\0", "reference": "kept"}, {"principal": "mallory\0"}])
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
    await ledger.publish(1, body, mac=mac)
    await ledger.publish(0, body, mac=mac, kind="cmd.v9")
    odd, odd_mac = signed(MAKE.move(alice, bob, 1).model_copy(update={"id": "00000000-0000-0000-0000-00000000000g"}))
    await ledger.publish(0, odd, mac=odd_mac)
    await ledger.publish(0, rubbish, mac="00")
    [answer] = await ledger.call(MAKE.move(alice, bob, 10))
    assert answer.outcome.status == "posted"
    parked = await ledger.parked(8)
    assert sorted(reason.split(":")[0] for _, reason in parked) == sorted(
        ["the signature does not verify"] * 5 + ["misrouted", "unknown kind 'cmd.v9'", "not an envelope"]
    )
    assert await worker.metric("ledger_parked_total", reason="unreadable") == 8
    assert await ledger.balance(alice) == 990
    await ledger.prove()


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
        (None, True), ("insufficient_funds", True), ("idempotency_key_reused", False), (None, False),
    ]
    assert await worker.metric("ledger_commit_faults_total", fault="RepeatFound") >= 1
    assert await worker.metric("ledger_duplicates_total", found="repeat") == 2
    await posted_once(ledger, move, fresh)


async def test_two_workers_share_the_partitions_and_settle_across(ledger: Ledger) -> None:
    accounts = await funded(ledger, 0, 1, 2, 3)
    one, two = await ledger.start().ready(), await ledger.start().ready()
    await ledger.owned_by(one, two)
    moves = [
        MAKE.move(source, destination, 1)
        for _ in range(10) for source in accounts for destination in accounts if source != destination
    ]
    answers = await ledger.call(*moves)
    assert all(answer.outcome.status == "posted" and answer.is_settled for answer in answers)
    assert [await ledger.balance(account) for account in accounts] == [1_000] * 4
    assert sum([await worker.metric("ledger_transit_legs_total", way="journal") for worker in (one, two)]) > 0
    assert sum([await worker.metric("ledger_transit_legs_total", way="same commit") for worker in (one, two)]) > 0
    await posted_once(ledger, *moves)


async def test_workers_come_and_go_under_load_and_every_command_is_decided(ledger: Ledger) -> None:
    accounts = await funded(ledger, 0, 1, 2, 3)
    one = await ledger.start().ready()
    moves = [MAKE.move(accounts[number % 4], accounts[(number * 7 + 1) % 4], 1) for number in range(400)]
    moves = [move for move in moves if move.source != move.destination]

    async def load() -> list[str]:
        answers = []
        for start in range(0, len(moves), 8):
            answers += [answer.outcome.status for answer in await ledger.call(*moves[start : start + 8])]
        return answers

    async with asyncio.TaskGroup() as group:
        loading = group.create_task(load())
        two = await ledger.start().ready()
        await ledger.owned_by(one, two)
        assert await asyncio.to_thread(one.stop) == 0
        await ledger.owned_by(two)
    assert set(loading.result()) == {"posted"}
    assert sum([await ledger.balance(account) for account in accounts]) == 4_000
    await posted_once(ledger, *moves)


async def test_a_credit_that_meets_a_closed_account_goes_back(ledger: Ledger) -> None:
    alice, bob = await funded(ledger, 0, 1)
    worker = await ledger.start().ready()
    await ledger.call(MAKE.withdrawal(bob, 1_000), MAKE.close(bob))
    [answer] = await ledger.call(MAKE.move(alice, bob, 10))
    assert answer.outcome.status == "posted"
    assert [settled.returned for settled in answer.settled] == [True]

    async def returned() -> bool:
        return await ledger.balance(alice) == 1_000

    await eventually_async(returned)
    assert await worker.metric("ledger_transit_returned_total") == 1
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


async def test_a_worker_that_is_asked_to_stop_finishes_what_it_decided_and_gives_everything_back(ledger: Ledger) -> None:
    alice, bob = await funded(ledger, 0, 0)
    worker = await ledger.start().ready()
    moves = [MAKE.move(alice, bob, 1) for _ in range(50)]
    sent = [ledger.send(move) for move in moves]
    await ledger.answer(sent[0])
    assert await asyncio.to_thread(worker.stop) == 0
    assert await ledger.owners() == {"None": 4}
    await ledger.start().ready()
    for each in sent:
        assert (await ledger.answer(each)).outcome.status == "posted"
    await posted_once(ledger, *moves)


def test_every_fault_point_of_the_worker_is_used_here() -> None:
    used = {*NOT_WRITTEN, *WRITTEN, FaultPoint.WORKER_IN_CORE}
    assert used == {point for point in FaultPoint if point.startswith("worker.")}


