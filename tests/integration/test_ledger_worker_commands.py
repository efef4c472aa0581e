"""What reaches a worker, on a real PostgreSQL and RabbitMQ: poison, rubbish, repeats, returns, cancellations."""

import asyncio

import pytest

from shared.runtime.fault_points import FaultPoint
from tests.contract.conditions import eventually_async
from tests.integration.ledger_scenes import MAKE, funded, posted_once
from tests.integration.worker import Ledger, signed

pytestmark = pytest.mark.timeout(180)


async def test_a_command_that_breaks_the_core_is_rejected_and_a_dead_letter_and_its_neighbours_are_applied_in_order(
    ledger: Ledger,
) -> None:
    alice, bob = await funded(ledger, 0, 0)
    worker = await ledger.start(f"{FaultPoint.WORKER_IN_CORE}:3:raise").ready()
    commands = [MAKE.transfer(alice, bob, 1 + number) for number in range(5)]
    body, mac = signed(*commands)
    await ledger.publish(0, body, mac=mac)
    [(copy, reason)] = await ledger.dead_letters(1)
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
    assert await worker.metric("ledger_dead_letters_total", reason="poison") == 1
    await ledger.prove()


@pytest.mark.parametrize(
    "change", [{"reference": "\0"}, {"metadata": "\0", "reference": "kept"}, {"principal": "mallory\0"}]
)
async def test_a_command_that_the_database_refuses_is_set_aside_alone(ledger: Ledger, change: dict[str, str]) -> None:
    alice, bob, carol = await funded(ledger, 0, 0, 1)
    await ledger.start().ready()
    commands = [MAKE.transfer(alice, (bob, carol)[number % 2], 1) for number in range(40)]
    commands[17] = commands[17].model_copy(update=change)
    body, mac = signed(*commands)
    await ledger.publish(0, body, mac=mac)
    [(_, reason)] = await ledger.dead_letters(1)
    assert "the database refused it" in reason
    # Not even its rejection can be written when the principal is at fault; then the dead letter is all there is.
    expected = None if "principal" in change else "internal_error"
    assert ("has no outcome" in reason) == (expected is None)
    assert [await ledger.outcome(command) for command in commands] == ["posted"] * 17 + [expected] + ["posted"] * 22
    [result] = await ledger.call(MAKE.transfer(alice, bob, 1))
    assert result.outcome.status == "posted"
    await ledger.prove()


async def test_what_is_no_envelope_is_a_dead_letter_and_its_partition_goes_on(ledger: Ledger) -> None:
    alice, bob = await funded(ledger, 0, 1)
    worker = await ledger.start().ready()
    body, mac = signed(MAKE.transfer(alice, bob, 1))
    rubbish = b'{"v":1,"commands":[{"kind":"transfer.v1"}]}'
    await ledger.publish(0, b"\xff\xfe", mac="00")
    await ledger.publish(0, body)
    await ledger.publish(0, body, mac=mac[::-1])
    await ledger.publish(0, body, mac="é")
    await ledger.publish(0, body, mac=mac, kind="cmd.v9")
    odd, odd_mac = signed(
        MAKE.transfer(alice, bob, 1).model_copy(update={"id": "00000000-0000-0000-0000-00000000000g"})
    )
    await ledger.publish(0, odd, mac=odd_mac)
    await ledger.publish(0, rubbish, mac="00")
    [result] = await ledger.call(MAKE.transfer(alice, bob, 10))
    assert result.outcome.status == "posted"
    found = await ledger.dead_letters(7)
    assert sorted(reason.split(":")[0] for _, reason in found) == sorted(
        ["the signature does not verify"] * 5 + ["unknown kind 'cmd.v9'", "not an envelope"]
    )
    assert await worker.metric("ledger_dead_letters_total", reason="unreadable") == 7
    assert await ledger.balance(alice) == 990
    await ledger.prove()


async def test_an_envelope_with_a_command_of_another_partition_is_a_dead_letter_and_its_neighbours_go_on(
    ledger: Ledger,
) -> None:
    alice, bob = await funded(ledger, 0, 1)
    worker = await ledger.start().ready()
    before, after = MAKE.withdrawal(alice, 1), MAKE.withdrawal(alice, 2)
    misplaced = [MAKE.withdrawal(alice, 100), MAKE.transfer(bob, alice, 100)]
    for commands in ([before], misplaced, [after]):
        body, mac = signed(*commands)
        await ledger.publish(0, body, mac=mac)
    [(copy, reason)] = await ledger.dead_letters(1)
    assert copy == signed(*misplaced)[0]
    assert f"command {misplaced[1].id} belongs to another partition" in reason
    await eventually_async(lambda: ledger.outcome(after))
    assert [await ledger.outcome(command) for command in (before, after)] == ["posted"] * 2
    assert [await ledger.outcome(command) for command in misplaced] == [None] * 2
    assert await worker.metric("ledger_dead_letters_total", reason="unreadable") == 1
    assert (await ledger.balance(alice), await ledger.balance(bob)) == (997, 1_000)
    await ledger.prove()


async def test_a_repeat_that_nobody_remembers_is_found_by_its_key_and_gets_the_first_outcome(ledger: Ledger) -> None:
    alice, bob = await funded(ledger, 0, 0)
    first = await ledger.start().ready()
    transfer, refused = MAKE.transfer(alice, bob, 10, key="k"), MAKE.transfer(alice, bob, 5_000, key="r")
    await ledger.call(transfer, refused)
    assert await asyncio.to_thread(first.stop) == 0
    worker = await ledger.start().ready()
    other = MAKE.transfer(alice, bob, 11, key="k")
    fresh = MAKE.transfer(alice, bob, 1)
    results = await ledger.call(transfer, refused, other, fresh)
    assert [(result.outcome.code, result.outcome.replayed) for result in results] == [
        (None, True),
        ("insufficient_funds", True),
        ("idempotency_key_reused", False),
        (None, False),
    ]
    assert await worker.metric("ledger_commit_faults_total", fault="RepeatFound") >= 1
    assert await worker.metric("ledger_duplicates_total", found="repeat") == 2
    await posted_once(ledger, transfer, fresh)


async def test_a_closed_account_takes_no_credit_wherever_it_comes_from(ledger: Ledger) -> None:
    alice, bob, carol = await funded(ledger, 0, 1, 1)
    first = await ledger.start().ready()
    hold = MAKE.hold(alice, 10)
    await ledger.call(hold, MAKE.withdrawal(bob, 1_000), MAKE.close(bob))
    again = [MAKE.transfer(alice, bob, 10), MAKE.transfer(carol, bob, 10), MAKE.capture(hold, bob)]
    for command in again:
        [result] = await ledger.call(command)
        assert result.outcome.code == "account_closed"
    assert await asyncio.to_thread(first.stop) == 0
    # Nor does it of a worker that must read that it is closed.
    worker = await ledger.start().ready()
    [result] = await ledger.call(MAKE.transfer(alice, bob, 10))
    assert result.outcome.code == "account_closed"
    assert await worker.metric("ledger_transit_returned_total") == 0
    assert await ledger.balance(alice) == await ledger.balance(carol) == 1_000
    await ledger.prove()


async def test_cancelling_an_unknown_ends_it_for_good(ledger: Ledger) -> None:
    alice, bob = await funded(ledger, 0, 0)
    await ledger.start().ready()
    late = MAKE.transfer(alice, bob, 10)
    decided = MAKE.transfer(alice, bob, 1)
    await ledger.call(decided)
    [cancelled, too_late] = await ledger.call(MAKE.cancel(late.id), MAKE.cancel(decided.id))
    assert (cancelled.outcome.status, cancelled.outcome.code) == ("rejected", "cancelled")
    assert (too_late.outcome.status, too_late.outcome.replayed) == ("posted", True)
    [result] = await ledger.call(late)
    assert (result.outcome.code, result.outcome.replayed) == ("cancelled", True)
    assert await ledger.balance(alice) == 999
    await ledger.prove()
