"""Partitions that change hands, in scenes that chance seldom plays: real commit loop and lease keeper, virtual time."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from services.ledger_worker.ports import JournalHead, Lease, StoreUnavailable
from shared.domain.ids import Partition
from tests.builders import account_in
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
            it.publish(MAKE.transfer(it.here, it.there, 1))
        worker.store.fail_next("commit", Fault.UNAVAILABLE)
        row = it.journal.owners[0]
        row.epoch += 1
        await worker.loop.add(Lease(P0, row.epoch))
        it.publish(MAKE.transfer(it.here, it.there, 1))
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
        it.publish(MAKE.transfer(it.here, it.there, 1))
        began_s = it.clock.monotonic_s()
        await it.until(lambda: it.balance(it.here) == 999, "never decided")
        assert it.clock.monotonic_s() - began_s < TTL_S / 2  # it was not lost, to be taken again when it had expired
        assert {lease.partition for lease in worker.loop.leases()} == set(range(PARTITIONS))

    play(scene())


def test_a_fenced_commit_ends_what_was_lost_before_the_lease_keeper_looks() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        _, keeping = worker.tasks
        keeping.cancel()
        row = it.journal.owners[0]
        row.owner, row.epoch = "another worker", row.epoch + 1
        it.publish(MAKE.withdrawal(it.here, 1))
        await it.until(lambda: P0 not in worker.loop.owned.states, "it does not notice")
        assert not worker.connection.is_consuming(P0)

    play(scene())


def test_a_partition_that_is_taken_over_begins_where_its_journal_ends() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [gone] = it.workers
        it.workers.remove(gone)
        gone.kill()
        last = len(it.journal.batches[0])
        it.start()
        await it.until_done(MAKE.withdrawal(it.here, 1))
        [heir] = it.workers
        tried = [batch.batch for batches in heir.store.commits for batch in batches if batch.partition == P0]
        assert tried == [last + 1]

    play(scene())


def test_a_partition_that_could_not_be_begun_is_free_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        it = Scene()
        it.start()
        [worker] = it.workers
        heads = worker.store.heads

        async def failing(partitions: Sequence[Partition]) -> dict[Partition, JournalHead]:
            if partitions:
                monkeypatch.setattr(worker.store, "heads", heads)
                raise StoreUnavailable("injected")
            return await heads(partitions)

        monkeypatch.setattr(worker.store, "heads", failing)
        await it.until(lambda: len(worker.loop.leases()) == PARTITIONS, "not taken")
        assert it.clock.monotonic_s() < TTL_S / 2

    play(scene())


def test_a_worker_without_a_broker_leaves_its_partitions_to_the_others_until_it_has_one_again() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin(workers=2)
        await it.until(lambda: len(it.owners()) == 2, "not shared")
        alone, other = it.workers
        alone.connection.is_down = True
        await it.until(lambda: it.owners() == {other.name}, "it keeps what it cannot consume")
        await it.until_done(MAKE.transfer(it.here, it.there, 1))
        alone.connection.is_down = False
        await it.until(lambda: it.owners() == {alone.name, other.name}, "it never comes back")

    play(scene())


def test_everything_is_given_back_while_commands_keep_coming() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [leaving] = it.workers
        it.start()
        sent = 0

        async def keep_sending() -> None:
            nonlocal sent
            while True:
                it.publish(MAKE.deposit(it.here, 1))
                sent += 1
                await asyncio.sleep(it.delay_max_s / 4)  # faster than one group after the other is committed

        sending = asyncio.get_running_loop().create_task(keep_sending())
        await asyncio.sleep(0.1)
        it.workers.remove(leaving)
        async with asyncio.timeout(TTL_S):
            await leaving.stop()
        sending.cancel()
        assert leaving.name not in it.owners()
        assert leaving.loop.progress.oldest_undecided_s() == 0
        await it.settled()
        assert it.balance(it.here) == 1_000 + sent

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
        transfers = [MAKE.transfer(account, it.here, 1) for account in everywhere]
        for transfer in transfers:
            it.publish(transfer)
        it.start()
        await it.settled()
        assert [it.code(transfer) for transfer in transfers] == [None] * PARTITIONS

    play(scene())


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("clock_set_back_s", [0, 600])
def test_partitions_of_a_killed_worker_are_served_long_before_its_leases_run_out(
    workers: int, clock_set_back_s: int
) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin(workers=workers)
        await it.until(lambda: len(it.owners()) == workers, "not shared")
        _set_clock_back(it, clock_set_back_s)
        gone = next(each for each in it.workers if each.name == it.journal.owners[0].owner)
        it.workers.remove(gone)
        gone.kill()
        began_s = it.clock.monotonic_s()
        if workers == 1:
            it.start()
        await it.until_done(MAKE.transfer(it.here, it.there, 1))
        assert it.clock.monotonic_s() - began_s < 2.0 < TTL_S / 2

    play(scene())


@pytest.mark.parametrize("clock_set_back_s", [0, 600])
def test_partitions_of_a_stopped_worker_are_served_after_a_lease_whatever_the_databases_clock_does(
    clock_set_back_s: int,
) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin(workers=2)
        await it.until(lambda: len(it.owners()) == 2, "not shared")
        stopped, other = it.workers
        stopped.freeze()
        _set_clock_back(it, clock_set_back_s)
        began_s = it.clock.monotonic_s()
        await it.until(lambda: it.owners() == {other.name}, "never taken over")
        assert it.clock.monotonic_s() - began_s < 2 * TTL_S
        stopped.thaw()
        await it.settled()

    play(scene())


def test_a_worker_that_reconnects_keeps_its_partitions() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin(workers=2)
        await it.until(lambda: len(it.owners()) == 2, "not shared")
        await it.until(lambda: all(len(worker.loop.leases()) == 2 for worker in it.workers), "not shared evenly")
        before = [(row.owner, row.epoch) for row in it.journal.owners]
        for _ in range(5):
            it.journal.connected.clear()
            await asyncio.sleep(0.5)
            it.journal.connected.update(worker.name for worker in it.workers)
            await asyncio.sleep(0.5)
        assert [(row.owner, row.epoch) for row in it.journal.owners] == before

    play(scene())


def _set_clock_back(it: Scene, seconds: int) -> None:
    now_us = it.journal.now_us
    it.journal.now_us = lambda: now_us() - seconds * 1_000_000
