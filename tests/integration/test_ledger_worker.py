"""The ledger worker as a process, on a real PostgreSQL and RabbitMQ: killed, stopped, shared, and still exact."""

import asyncio
import signal

import pytest

from shared.runtime.fault_points import FaultPoint
from tests.contract.conditions import eventually_async
from tests.integration.ledger_scenes import MAKE, funded, posted_once
from tests.integration.worker import Ledger

NOT_WRITTEN = (FaultPoint.WORKER_BEFORE_FENCE, FaultPoint.WORKER_IN_BATCH, FaultPoint.WORKER_BEFORE_COMMIT)
WRITTEN = (FaultPoint.WORKER_AFTER_COMMIT, FaultPoint.WORKER_AFTER_ANSWER)
pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("point", [*NOT_WRITTEN, *WRITTEN])
async def test_a_worker_killed_at_any_point_loses_nothing_and_repeats_nothing(
    ledger: Ledger, point: FaultPoint
) -> None:
    alice, bob, carol = await funded(ledger, 0, 0, 1)
    doomed = await ledger.start(f"{point}:1").ready()
    commands = [MAKE.transfer(alice, bob, 10), MAKE.transfer(alice, carol, 20), MAKE.transfer(carol, bob, 5)]
    sent = [ledger.send(command) for command in commands]
    await doomed.killed()
    # The fault landed where its name says.
    in_journal = [await ledger.outcome(command) for command in commands]
    assert any(in_journal) == (point in WRITTEN)
    # After the reply it may still be in the process's own buffer; before that point nobody was told anything.
    assert point is FaultPoint.WORKER_AFTER_ANSWER or all(each.outcome is None for each in sent)
    successor = await ledger.start().ready()
    results = [await ledger.result(each) for each in sent]
    assert [result.outcome.status for result in results] == ["posted"] * 3
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
    command = MAKE.transfer(alice, bob, 10)
    sent = ledger.send(command)
    await zombie.hit()
    heir = await ledger.start().ready()
    await ledger.owned_by(heir)
    zombie.signal(signal.SIGCONT)

    async def fenced() -> bool:
        return await zombie.metric("ledger_fenced_total") >= 1

    await eventually_async(fenced)
    result = await ledger.result(sent)
    assert result.outcome.status == "posted"
    assert result.is_settled
    await posted_once(ledger, command)


async def test_a_worker_stopped_with_its_batch_open_is_freed_of_its_locks_and_finds_out(ledger: Ledger) -> None:
    alice, bob = await funded(ledger, 0, 1)
    zombie = await ledger.start(f"{FaultPoint.WORKER_BEFORE_COMMIT}:1:stop").ready()
    await ledger.owned_by(zombie)
    command = MAKE.transfer(alice, bob, 10)
    sent = ledger.send(command)
    await zombie.hit()
    heir = await ledger.start().ready()
    await ledger.owned_by(heir)
    assert await ledger.outcome(command) is None
    zombie.signal(signal.SIGCONT)

    async def unknown() -> bool:
        return await zombie.metric("ledger_commit_faults_total", fault="CommitUnknown") >= 1

    await eventually_async(unknown)
    assert (await ledger.result(sent)).outcome.status == "posted"
    await posted_once(ledger, command)


async def test_a_silent_owners_partitions_pass_to_another_worker(ledger: Ledger) -> None:
    alice, bob = await funded(ledger, 0, 1)
    one, two = await ledger.start().ready(), await ledger.start().ready()
    await ledger.owned_by(one, two)
    one.signal(signal.SIGSTOP)
    await ledger.owned_by(two)
    # The broker finds out by missed heartbeats; the client waits that long and no longer.
    [result] = await ledger.call(MAKE.transfer(alice, bob, 10))
    assert result.outcome.status == "posted"
    one.signal(signal.SIGCONT)
    await ledger.owned_by(one, two)

    async def lost() -> bool:
        return await one.metric("ledger_lease_changes_total", change="lost") >= 1

    await eventually_async(lost)
    await ledger.call(MAKE.transfer(bob, alice, 10))
    await ledger.prove()


async def test_two_workers_share_the_partitions_and_settle_across(ledger: Ledger) -> None:
    accounts = await funded(ledger, 0, 1, 2, 3)
    one, two = await ledger.start().ready(), await ledger.start().ready()
    await ledger.owned_by(one, two)
    transfers = [
        MAKE.transfer(source, destination, 1)
        for _ in range(10)
        for source in accounts
        for destination in accounts
        if source != destination
    ]
    results = await ledger.call(*transfers)
    assert all(result.outcome.status == "posted" and result.is_settled for result in results)
    assert [await ledger.balance(account) for account in accounts] == [1_000] * 4
    assert sum([await worker.metric("ledger_transit_legs_total") for worker in (one, two)]) == len(transfers)
    assert ledger.client.outcomes_unmatched == 0
    await posted_once(ledger, *transfers)


async def test_workers_come_and_go_under_load_and_every_command_is_decided(ledger: Ledger) -> None:
    accounts = await funded(ledger, 0, 1, 2, 3)
    one = await ledger.start().ready()
    pairs = [(accounts[number % 4], accounts[(number * 7 + 1) % 4]) for number in range(400)]
    transfers = [MAKE.transfer(source, destination, 1) for source, destination in pairs if source != destination]

    async def load() -> list[str]:
        results: list[str] = []
        for start in range(0, len(transfers), 8):
            results += [result.outcome.status for result in await ledger.call(*transfers[start : start + 8])]
        return results

    async with asyncio.TaskGroup() as group:
        loading = group.create_task(load())
        two = await ledger.start().ready()
        await ledger.owned_by(one, two)
        assert await asyncio.to_thread(one.stop) == 0
        await ledger.owned_by(two)
    assert set(loading.result()) == {"posted"}
    assert sum([await ledger.balance(account) for account in accounts]) == 4_000
    await posted_once(ledger, *transfers)


async def test_a_worker_that_is_asked_to_stop_finishes_what_it_decided_and_gives_everything_back(
    ledger: Ledger,
) -> None:
    alice, bob = await funded(ledger, 0, 0)
    worker = await ledger.start().ready()
    transfers = [MAKE.transfer(alice, bob, 1) for _ in range(50)]
    sent = [ledger.send(transfer) for transfer in transfers]
    await ledger.result(sent[0])
    assert await asyncio.to_thread(worker.stop) == 0
    assert await ledger.owners() == {"None": 4}
    await ledger.start().ready()
    for each in sent:
        assert (await ledger.result(each)).outcome.status == "posted"
    await posted_once(ledger, *transfers)


def test_every_fault_point_of_the_worker_is_used_here() -> None:
    used = {*NOT_WRITTEN, *WRITTEN, FaultPoint.WORKER_IN_CORE}
    assert used == {point for point in FaultPoint if point.startswith("worker.")}
