"""The ledger worker's engine in scenes that chance seldom plays: real commit loop between twins, virtual time."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from services.ledger_worker.core.accounts import Account
from services.ledger_worker.core.batch import SealedBatch
from services.ledger_worker.core.state import PartitionState
from services.ledger_worker.ports import Lease
from shared.domain.ids import AccountId, AssetCode, Partition
from tests.builders import Commands, account_in
from tests.property.random_commands import REFUSED
from tests.property.simulated_worker import TTL_S
from tests.twins.faults import Fault
from tests.unit.ledger_scene import MAKE, PARTITIONS, Scene, play

P0 = Partition(0)


def test_a_partition_taken_again_while_it_is_held_loses_no_delivery() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        for _ in range(5):
            it.publish(MAKE.move(it.here, it.there, 1))
        worker.store.fail_next("commit", Fault.UNAVAILABLE)
        row = it.journal.owners[0]
        row.epoch += 1
        await worker.loop.add(Lease(P0, row.epoch))
        it.publish(MAKE.move(it.here, it.there, 1))
        await it.settled()
        assert it.balance(it.here) == 994

    play(scene())


def test_a_partition_taken_again_while_the_old_lease_is_found_lost_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        renew, row = worker.store.renew, it.journal.owners[0]

        async def renewed_late(leases: Sequence[Lease], ttl_s: float) -> set[Partition]:
            kept = await renew(leases, ttl_s)
            monkeypatch.setattr(worker.store, "renew", renew)
            row.owner, row.epoch = worker.name, row.epoch + 1
            await worker.loop.add(Lease(P0, row.epoch))
            return kept

        # The next commit is fenced, and asks which leases are left.
        row.epoch += 1
        monkeypatch.setattr(worker.store, "renew", renewed_late)
        it.publish(MAKE.move(it.here, it.there, 1))
        began_s = it.clock.monotonic_s()
        await it.until(lambda: it.balance(it.here) == 999, "never decided")
        assert it.clock.monotonic_s() - began_s < TTL_S / 2  # it was not lost, to be taken again when it had expired
        assert {lease.partition for lease in worker.loop.leases()} == set(range(PARTITIONS))

    play(scene())


def test_a_group_is_replied_to_and_acknowledged_even_when_the_next_cannot_be_sealed() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        command = MAKE.move(it.here, it.there, 1)
        worker.store.fail_next("pending_transit", *[Fault.UNAVAILABLE] * 3)
        it.publish(command)
        worker.inbox.nudge()
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
        del worker.loop.owned.states[P0].accounts[it.here]
        read = worker.store.accounts

        async def read_slowly(wanted: Sequence[AccountId]) -> list[Account]:
            rows = await read(wanted)
            await asyncio.sleep(0.5)
            return rows

        monkeypatch.setattr(worker.store, "accounts", read_slowly)
        command = MAKE.move(it.here, it.there, 1)
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


def test_a_worker_without_a_broker_leaves_its_partitions_to_the_others_until_it_has_one_again() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin(workers=2)
        await it.until(lambda: len(it.owners()) == 2, "not shared")
        alone, other = it.workers
        alone.connection.is_down = True
        await it.until(lambda: it.owners() == {other.name}, "it keeps what it cannot consume")
        await it.until_done(MAKE.move(it.here, it.there, 1))
        alone.connection.is_down = False
        await it.until(lambda: it.owners() == {alone.name, other.name}, "it never comes back")

    play(scene())


def test_everything_is_given_back_while_commands_keep_coming() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [leaving] = it.workers
        it.start()
        for number in range(200):
            it.publish(MAKE.move(it.here, it.there, 1))
            if number == 50:
                it.workers.remove(leaving)
                await leaving.stop()
                assert leaving.name not in it.owners()
        await it.settled()
        assert (it.balance(it.here), it.balance(it.there)) == (800, 1_200)

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


@pytest.mark.parametrize("commands", [1, 30])
def test_after_poison_was_found_groups_grow_as_large_again_as_they_were(commands: int) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        poison, limit = worker.loop._poison, worker.loop._poison.limit
        envelope = [MAKE.withdrawal(it.here, 1) for _ in range(commands)]
        envelope[commands // 2] = envelope[commands // 2].model_copy(update={"reference": REFUSED})
        it.publish(*envelope)
        await it.settled()
        assert it.code(envelope[commands // 2]) == "internal_error"
        for _ in range(10):
            await it.until_done(MAKE.withdrawal(it.here, 1))
        assert (poison.limit, poison.is_searching, poison.is_active) == (limit, False, False)
        assert poison.reason(envelope[commands // 2]) is None
        assert it.balance(it.here) == 990 - commands + 1

    play(scene())


@pytest.mark.parametrize("seed", range(10))
def test_a_worker_that_takes_over_one_partition_after_the_other_finds_the_accounts_of_all(seed: int) -> None:
    async def scene() -> None:
        it = Scene()
        it.rng, it.delay_max_s = random.Random(seed), 0.01
        await it.begin()
        everywhere = [account_in(place) for place in range(PARTITIONS)]
        await it.until_done(*(MAKE.open(account) for account in everywhere))
        await it.until_done(*(MAKE.deposit(account, 1_000) for account in everywhere))
        [gone] = it.workers
        it.workers.remove(gone)
        gone.kill()
        # They wait in their queues while the next worker takes all four partitions.
        transfers = [MAKE.move(account, it.here, 1) for account in everywhere]
        for transfer in transfers:
            it.publish(transfer)
        it.start()
        await it.settled()
        assert [it.code(transfer) for transfer in transfers] == [None] * PARTITIONS

    play(scene())
