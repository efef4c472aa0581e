"""Credits between partitions in scenes that chance seldom plays: real commit loop between twins, virtual time."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from services.ledger_worker.core.batch import SealedBatch
from services.ledger_worker.engine import transit_in
from services.ledger_worker.ports import PendingTransit, RowRefused
from shared.domain.ids import AccountId, Partition
from tests.property.simulated_worker import RENEW_S
from tests.twins.faults import Fault
from tests.twins.proof import prove
from tests.unit.ledger_scene import MAKE, Scene, play

P0 = Partition(0)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_credit_lands_at_once_and_not_when_somebody_happens_to_look(workers: int) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin(workers=workers)
        away = it.there if workers == 1 else await it.away()
        for _ in range(5):
            began_s = it.clock.monotonic_s()
            await it.until_done(MAKE.transfer(it.here, away, 1))
            assert it.clock.monotonic_s() - began_s < RENEW_S / 4
        assert it.replies.settled == 5  # which the sender is told

    play(scene())


async def _busy(it: Scene, commands: int) -> AccountId:
    """An account of another worker, which has just committed so many commands at once."""
    await it.begin(workers=2)
    away = await it.away()
    await asyncio.sleep(1)
    deposits = [MAKE.deposit(away, 100) for _ in range(commands)]
    it.publish(*deposits)
    await _until(it, lambda: it.is_replied(deposits[-1]))
    return away


async def _until(it: Scene, holds: Callable[[], bool]) -> float:
    """Waits in small steps, and returns how many seconds."""
    began_s = it.clock.monotonic_s()
    while not holds():
        await asyncio.sleep(0.0005)
        assert it.clock.monotonic_s() < began_s + 1, "it never happens"
    return it.clock.monotonic_s() - began_s


def _is_settled(it: Scene) -> bool:
    return it.journal.transit.keys() == it.journal.settlements.keys()


def test_a_credit_shares_the_commit_of_the_commands_that_follow_it() -> None:
    async def scene() -> None:
        it = Scene()
        away = await _busy(it, 20)
        transfer = MAKE.transfer(it.here, away, 1)
        it.publish(transfer)
        await _until(it, lambda: transfer.id in it.journal.operations)
        await asyncio.sleep(0.01)  # virtual: its nudge has come
        assert not _is_settled(it)
        deposit = MAKE.deposit(away, 1)
        it.publish(deposit)
        await _until(it, lambda: _is_settled(it))
        [batch] = it.journal.settlements.values()
        assert it.journal.operations[deposit.id]["batch"] == str(batch)

    play(scene())


@pytest.mark.parametrize(("commands", "wait_s"), [(1, 0.0), (3, 0.01), (20, transit_in.WAIT_S_MAX)])
def test_a_credit_without_commands_waits_a_bounded_time_and_none_at_low_load(commands: int, wait_s: float) -> None:
    async def scene() -> None:
        it = Scene()
        away = await _busy(it, commands)
        it.publish(MAKE.transfer(it.here, away, 1))
        await _until(it, lambda: not _is_settled(it))
        assert wait_s - 0.01 < await _until(it, lambda: _is_settled(it)) < wait_s + 0.01

    play(scene())


def test_a_backlog_of_credits_waits_for_no_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        await leave_rows(it, 40)
        monkeypatch.setattr(transit_in, "ROWS_PER_COMMIT_MAX", 4)
        worker.loop.owned.states[Partition(1)].is_draining = False
        worker.inbox.nudge_all()
        assert await _until(it, lambda: _is_settled(it)) < 0.1

    play(scene())


def test_a_transit_row_that_nobody_can_read_goes_to_suspense_and_its_partition_goes_on() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin(workers=2)
        away = await it.away()
        for worker in it.workers:
            worker.freeze()
        it.publish(MAKE.transfer(it.here, away, 7))
        it.workers[[worker.name for worker in it.workers].index(str(it.journal.owners[0].owner))].thaw()
        await it.until(lambda: bool(it.journal.transit.keys() - it.journal.settlements.keys()), "no row waits")
        [row] = it.journal.transit.keys() - it.journal.settlements.keys()
        it.journal.transit[row] = '{"v":9}'
        for worker in it.workers:
            worker.thaw()
        await it.settled()
        assert it.balance(AccountId(f"suspense:USD:{row[2]}")) == 7
        prove(it.journal)
        await it.until_done(MAKE.transfer(it.here, away, 1))
        assert it.balance(away) == 1

    play(scene())


def test_a_transit_row_that_makes_the_core_raise_goes_to_suspense(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: object) -> None:
        raise ZeroDivisionError

    async def scene() -> None:
        it = Scene()
        await it.begin()
        monkeypatch.setattr(transit_in, "take_in", raises)
        await it.until_done(MAKE.transfer(it.here, it.there, 7))
        assert it.balance(AccountId("suspense:USD:1")) == 7
        prove(it.journal)

    play(scene())


def test_a_partition_that_is_being_given_back_takes_no_transit_rows_in() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin(workers=2)
        away = await it.away()
        await it.until_done(MAKE.deposit(away, 100))
        [owner] = [worker for worker in it.workers if worker.name == it.journal.owners[0].owner]
        owner.loop.owned.states[P0].is_draining = True
        command = MAKE.transfer(away, it.here, 5)
        it.publish(command)
        await it.until(lambda: command.id in it.journal.operations, "not decided")
        await asyncio.sleep(10)  # virtual: several looks at what waits
        assert it.journal.transit.keys() > it.journal.settlements.keys()
        owner.loop.owned.states[P0].is_draining = False
        await it.settled()
        assert it.balance(it.here) == 1_005

    play(scene())


def test_of_transit_rows_only_the_one_that_is_refused_goes_to_suspense(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        commit = worker.store.commit

        async def committed(batches: Sequence[SealedBatch]) -> dict[Partition, int]:
            settled = [line for batch in batches for line in batch.lines["settlements"]]
            entries = [line for batch in batches for line in batch.lines["entries"]]
            if settled and any("\t666\t" in line for line in entries if not line.startswith(("transit:", "suspense:"))):
                raise RowRefused("the database refuses 666")
            return await commit(batches)

        monkeypatch.setattr(worker.store, "commit", committed)
        worker.loop.owned.states[Partition(1)].is_draining = True  # so that each batch leaves a row that waits
        for amount in (1, 2, 666, 3):
            command = MAKE.transfer(it.here, it.there, amount)
            it.publish(command)
            await it.until(partial(it.is_replied, command), "not decided")
        worker.loop.owned.states[Partition(1)].is_draining = False
        worker.inbox.nudge_all()
        await it.settled()
        assert (it.balance(it.there), it.balance(AccountId("suspense:USD:1"))) == (1_006, 666)
        assert not worker.loop._transit_in.has_suspected
        prove(it.journal)

    play(scene())


def test_a_backlog_is_read_once_and_taken_in_by_bounded_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        await leave_rows(it, 40)
        rows = [(batch, len(credits)) for (_, batch, _), credits in sorted(it.journal.transit.items())]
        monkeypatch.setattr(transit_in, "SIZE_PER_COMMIT_MAX", 3 * rows[0][1])
        worker.loop._transit_in._size_max = transit_in.SIZE_PER_COMMIT_MAX
        read, pending_transit = list[int](), worker.store.pending_transit

        async def counted(cursors: Sequence[tuple[Partition, Partition, int]], rows: int, size: int) -> PendingTransit:
            pending = await pending_transit(cursors, rows, size)
            read.extend(row.batch for row in pending.rows)
            return pending

        monkeypatch.setattr(worker.store, "pending_transit", counted)
        worker.loop.owned.states[Partition(1)].is_draining = False
        worker.inbox.nudge_all()
        await it.settled()
        assert read == [batch for batch, _ in rows]
        taken_in = [sum(len(batch.lines["settlements"]) for batch in batches) for batches in worker.store.commits]
        assert [count for count in taken_in if count] == [3] * 13 + [1]

    play(scene())


def test_a_reading_that_fails_is_repeated_with_fewer_rows_and_later_with_as_many_as_before() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        transit = worker.loop._transit_in
        await leave_rows(it, 3)
        worker.store.fail_next("pending_transit", *[Fault.UNAVAILABLE] * 5)
        worker.loop.owned.states[Partition(1)].is_draining = False
        worker.inbox.nudge_all()
        await it.settled()
        assert transit._size_max < transit_in.SIZE_PER_COMMIT_MAX / 500
        for _ in range(60):
            await it.until_done(MAKE.transfer(it.here, it.there, 1))
        assert transit._size_max == transit_in.SIZE_PER_COMMIT_MAX

    play(scene())


async def leave_rows(it: Scene, rows: int) -> None:
    """So many batches that each leave a transit row, which waits until partition 1 is no longer draining."""
    it.workers[0].loop.owned.states[Partition(1)].is_draining = True
    for _ in range(rows):
        command = MAKE.transfer(it.here, it.there, 1)
        it.publish(command)
        await it.until(partial(it.is_replied, command), "not decided")


def test_a_transfer_to_an_account_that_another_worker_has_closed_is_refused() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin(workers=2)
        away = await it.away()
        refused = MAKE.transfer(it.here, away, 1)
        await it.until_done(MAKE.close(away))
        await it.until_done(refused)
        assert (it.code(refused), it.balance(it.here)) == ("account_closed", 1_000)

    play(scene())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_credit_that_comes_back_tells_that_its_account_has_closed_since_it_was_read(workers: int) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin(workers=workers)
        away = it.there if workers == 1 else await it.away()
        await it.until_done(MAKE.transfer(it.here, away, 5))  # from here on the source's partition knows the account
        await it.until_done(MAKE.withdrawal(away, it.balance(away)))
        returned, refused = MAKE.transfer(it.here, away, 1), MAKE.transfer(it.here, away, 1)
        for command in (MAKE.close(away), returned, refused):
            await it.until_done(command)
        assert (it.code(returned), it.code(refused), it.balance(it.here)) == (None, "account_closed", 995)
        assert prove(it.journal) == 0

    play(scene())


def test_a_closing_that_was_not_committed_refuses_nothing() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        await it.until_done(MAKE.transfer(it.here, it.there, 1))
        await it.until_done(MAKE.withdrawal(it.there, 1_001))
        row = it.journal.owners[1]
        row.owner, row.epoch = "another worker", row.epoch + 1
        close, transfer = MAKE.close(it.there), MAKE.transfer(it.here, it.there, 1)
        it.publish(close)
        await it.until(lambda: Partition(1) not in worker.loop.owned.states, "it does not notice")
        it.publish(transfer)
        await it.until(lambda: transfer.id in it.journal.operations, "never decided")
        assert (it.code(transfer), close.id in it.journal.operations) == (None, False)
        row.owner = None
        await it.settled()

    play(scene())
