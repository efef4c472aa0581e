"""The ledger worker's engine in scenes that chance seldom plays: real commit loop between twins, virtual time."""

import asyncio
from collections.abc import Sequence

import pytest

from services.ledger_worker.core.accounts import Account
from services.ledger_worker.core.batch import SealedBatch
from services.ledger_worker.core.state import PartitionState
from services.ledger_worker.ports import CommitUnknown, Fenced, Lease, RepeatFound, StoreFault
from shared.domain.ids import AccountId, AssetCode, Partition
from shared.runtime.retry import BACKOFF_S_MIN
from tests.builders import Commands, account_in
from tests.twins.faults import Fault
from tests.unit.ledger_scene import MAKE, Scene, play

P0 = Partition(0)
TRIES_MAX = 50


def test_after_a_commit_of_unknown_end_the_epochs_are_raised_before_the_journal_is_read() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        before = {lease.partition: lease.epoch for lease in worker.loop.leases()}
        worker.store.fail_next("commit", Fault.LATE)
        await it.until_done(MAKE.withdrawal(it.here, 1))
        raised = {lease.partition: lease.epoch for lease in worker.loop.leases()}
        assert raised == {partition: epoch + 1 for partition, epoch in before.items()}
        assert [row.epoch for row in it.journal.owners] == list(raised.values())

    play(scene())


def test_a_group_is_replied_to_and_acknowledged_even_when_the_next_cannot_be_sealed() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        command = MAKE.transfer(it.here, it.there, 1)
        worker.store.fail_next("pending_transit", *[Fault.UNAVAILABLE] * 3)
        it.publish(command)
        worker.inbox.nudge_all()
        await it.settled()
        assert it.is_replied(command)

    play(scene())


def test_a_reply_leaves_before_the_next_group_is_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        first, second = MAKE.withdrawal(it.here, 1), MAKE.withdrawal(it.here, 1)
        is_replied_at_seal: list[bool] = []
        commit, seal = worker.store.commit, PartitionState.seal

        async def committed(batches: Sequence[SealedBatch]) -> dict[Partition, int]:
            if len(is_replied_at_seal) == 1:
                it.publish(second)
                await asyncio.sleep(1.0)  # of virtual time, in which it is decided
            return await commit(batches)

        def sealed(state: PartitionState, epoch: int) -> SealedBatch | None:
            if state.builder is not None:
                is_replied_at_seal.append(it.is_replied(first))
            return seal(state, epoch)

        monkeypatch.setattr(worker.store, "commit", committed)
        monkeypatch.setattr(PartitionState, "seal", sealed)
        await it.until_done(first)
        assert is_replied_at_seal == [False, True]

    play(scene())


def test_nothing_is_acknowledged_before_its_commit_and_all_of_it_after() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        worker.store.fail_next("commit", *[Fault.LOST_BEFORE] * 3)
        commands = [MAKE.withdrawal(it.here, 1) for _ in range(40)]
        for command in commands:
            it.publish(command)
        await it.settled()
        assert not it.lost
        assert all(it.is_replied(command) for command in commands)
        assert it.replies.replayed == 0

    play(scene())


@pytest.mark.parametrize("is_taken_again", [False, True])
def test_a_partition_that_is_lost_while_its_accounts_are_read_decides_nothing_on_them(
    monkeypatch: pytest.MonkeyPatch, *, is_taken_again: bool
) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        worker.loop.owned.states[P0].accounts.pop(it.here, None)  # as if evicted
        read = worker.store.accounts

        async def read_slowly(wanted: Sequence[AccountId]) -> list[Account]:
            rows = await read(wanted)
            await asyncio.sleep(0.5)
            return rows

        monkeypatch.setattr(worker.store, "accounts", read_slowly)
        command = MAKE.transfer(it.here, it.there, 1)
        it.publish(command)
        await asyncio.sleep(0.1)
        row = it.journal.owners[0]
        row.owner, row.epoch = worker.name if is_taken_again else None, row.epoch + 1
        await worker.loop.abandon(P0)
        if is_taken_again:
            await worker.loop.add(Lease(P0, row.epoch))
        await it.settled()
        assert it.code(command) is None

    play(scene())


def test_an_asset_is_known_to_those_behind_it_before_it_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        commit = worker.store.commit
        opening = Commands(asset=AssetCode("GOLD")).open(account_in(0))
        behind = [MAKE.asset_create("SILVER", 3), opening]

        async def committed(batches: Sequence[SealedBatch]) -> dict[Partition, int]:
            if behind:
                it.publish(*behind)
                behind.clear()
                await asyncio.sleep(1.0)  # of virtual time, in which both are decided
            return await commit(batches)

        monkeypatch.setattr(worker.store, "commit", committed)
        await it.until_done(MAKE.asset_create("GOLD", 3))
        assert it.code(opening) is None

    play(scene())


@pytest.mark.parametrize("fault", [Fenced, RepeatFound, CommitUnknown])
def test_a_fault_that_comes_again_and_again_is_tried_again_with_pauses(
    monkeypatch: pytest.MonkeyPatch, fault: type[StoreFault]
) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        commit, tried_s = worker.store.commit, list[float]()
        until_s = it.clock.monotonic_s() + 3.0

        async def fails(batches: Sequence[SealedBatch]) -> dict[Partition, int]:
            tried_s.append(it.clock.monotonic_s())
            if tried_s[-1] < until_s and len(tried_s) < TRIES_MAX:
                raise fault("and nothing is lost")
            return await commit(batches)

        monkeypatch.setattr(worker.store, "commit", fails)
        await it.until_done(MAKE.withdrawal(it.here, 1))
        assert tried_s[-1] >= until_s, len(tried_s)
        assert tried_s[-1] - tried_s[-2] >= BACKOFF_S_MIN

    play(scene())
