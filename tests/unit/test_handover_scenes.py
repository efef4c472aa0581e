"""Partitions that are given back or acquired while something fails: real commit loop and lease keeper, virtual time."""

import asyncio
from collections.abc import Sequence

import pytest

from services.ledger_worker.core.batch import SealedBatch
from services.ledger_worker.ports import Lease
from shared.domain.ids import Partition
from shared.messages import Reply
from tests.property.simulated_worker import TTL_S, SimulatedWorker
from tests.twins.faults import Fault
from tests.unit.ledger_scene import MAKE, PARTITIONS, Scene, play


async def stop(it: Scene, worker: SimulatedWorker) -> None:
    """SIGTERM, then the process is gone."""
    it.workers.remove(worker)
    async with asyncio.timeout(TTL_S):
        await worker.stop()
    worker.kill()


@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.LATE])
def test_a_clean_stop_during_a_commit_of_unknown_end_leaves_no_partition_unserved(
    monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [leaving] = it.workers
        commit = leaving.store.commit

        async def slow(batches: Sequence[SealedBatch]) -> dict[Partition, int]:
            await asyncio.sleep(0.5)
            return await commit(batches)

        monkeypatch.setattr(leaving.store, "commit", slow)
        leaving.store.fail_next("commit", fault)
        command = MAKE.transfer(it.here, it.there, 1)
        it.publish(command)
        await asyncio.sleep(0.1)
        it.start()
        await stop(it, leaving)
        assert leaving.name not in it.owners()
        await it.settled()
        assert (it.code(command), it.balance(it.here)) == (None, 999)

    play(scene())


@pytest.mark.parametrize("method", ["release", "raise_epochs.after"])
def test_what_fails_while_partitions_are_given_back_is_tried_again(method: str) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [leaving] = it.workers
        leaving.store.fail_next(method, *[Fault.UNAVAILABLE] * 5)
        leaving.store.fail_next("commit", Fault.LOST_BEFORE)
        it.publish(MAKE.transfer(it.here, it.there, 1))
        await stop(it, leaving)
        assert it.owners() == {None}

    play(scene())


def test_a_clean_stop_in_the_middle_of_acquiring_leaves_no_partition_unserved(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        it = Scene()
        it.start()
        [leaving] = it.workers
        acquire = leaving.store.acquire

        async def answered_late(ttl_s: float, ended: Sequence[Lease], held: Sequence[Partition]) -> Lease | None:
            lease = await acquire(ttl_s, ended, held)
            await asyncio.sleep(0.5)
            return lease

        monkeypatch.setattr(leaving.store, "acquire", answered_late)
        await it.until(lambda: leaving.name in it.owners(), "nothing is taken")
        await stop(it, leaving)
        assert it.owners() == {None}

    play(scene())


def test_a_partition_that_was_given_back_in_a_bad_moment_is_served_again_at_once() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        worker.store.fail_next("release", Fault.UNAVAILABLE)
        it.start()
        began_s = it.clock.monotonic_s()
        other = it.workers[1]
        await it.until(lambda: len(other.loop.leases()) == PARTITIONS / 2, "not shared")
        assert it.clock.monotonic_s() - began_s < TTL_S / 2
        await it.until_done(MAKE.transfer(it.here, it.there, 1))

    play(scene())


def test_a_partition_of_which_the_answer_that_it_was_acquired_is_lost_is_served_at_once() -> None:
    async def scene() -> None:
        it = Scene()
        it.start()
        [worker] = it.workers
        worker.store.fail_next("acquire.after", Fault.UNAVAILABLE)
        await it.until(lambda: len(worker.loop.leases()) == PARTITIONS, "not taken")
        assert it.clock.monotonic_s() < TTL_S / 2

    play(scene())


def test_what_is_committed_is_acknowledged_before_its_partition_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        reply, replying = worker.connection.reply, asyncio.Event()

        async def slow(reply_to: str, body: Reply) -> None:
            replying.set()
            await asyncio.sleep(0.5)
            await reply(reply_to, body)

        monkeypatch.setattr(worker.connection, "reply", slow)
        it.publish(MAKE.withdrawal(it.here, 1))
        await replying.wait()
        await worker.loop.give_back(Partition(0))
        assert it.broker.queues[Partition(0)].depth == 0

    play(scene())
