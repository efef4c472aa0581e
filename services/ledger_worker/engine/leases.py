"""Acquires, renews and gives back leases, so that the live workers own equal shares of the partitions."""

import asyncio
import math
from collections.abc import Sequence
from typing import Final

import structlog

from services.ledger_worker import metrics
from services.ledger_worker.engine.commit_loop import CommitLoop
from services.ledger_worker.engine.intake import Inbox
from services.ledger_worker.engine.lease_watch import LOOK_S, LeaseWatch
from services.ledger_worker.ports import Clock, Lease, Store, StoreFault, Waiting
from shared.domain.ids import Partition
from shared.runtime.retry import backoff_s

log = structlog.get_logger()

# The worker is not ready when the last complete tick is longer ago than so many renewal intervals.
LATE_TICKS_MAX: Final = 2.5


def fair_share(owner: str, alive: list[str], partitions: int) -> int:
    """How many partitions `owner` should have: an equal share; a remainder goes one each to the first by id.

    `ceil(partitions / workers)` could leave the last worker with none (4 / 3: 2, 2, 0). This gives 2, 1, 1.
    """
    if owner not in alive:
        return 0
    return partitions // len(alive) + (alive.index(owner) < partitions % len(alive))


class LeaseKeeper:
    """Renews, takes and gives back leases. One that has expired on the worker's own clock is abandoned at once."""

    def __init__(
        self,
        owner: str,
        store: Store,
        loop: CommitLoop,
        inbox: Inbox,
        clock: Clock,
        *,
        partitions: int,
        ttl_s: float,
        renew_s: float,
    ) -> None:
        self._owner = owner
        self._store = store
        self._loop = loop
        self._inbox = inbox
        self._clock = clock
        self._partitions = partitions
        self._ttl_s = ttl_s
        self._renew_s = renew_s
        self._valid_until_s: dict[Partition, float] = {}
        # Given back, and not yet released in the database.
        self._unreleased: dict[Partition, Lease] = {}
        self._ticking = asyncio.Lock()
        self._is_stopping = False
        self._connected_s = clock.monotonic_s()
        self._watch = LeaseWatch(clock, ttl_s)
        self._ticked_s = clock.monotonic_s()
        self._fault = "not yet"

    async def run(self) -> None:
        """Ticks until cancelled. A second task drops expired leases, even while the database does not answer."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick_for_ever(), name="lease ticks")
            group.create_task(self._drop_expired_for_ever(), name="expired leases")

    def late(self) -> str | None:
        """Why the leases may not be renewed in time; None while the ticks go on."""
        late_s = self._clock.monotonic_s() - self._ticked_s
        if not self._fault and late_s <= LATE_TICKS_MAX * self._renew_s:
            return None
        return f"the last heartbeat was written {late_s:.0f} s ago: {self._fault or 'no answer'}"

    async def stop(self) -> None:
        """Gives everything back cleanly: finish, acknowledge, close, release, leave. `run` must go on meanwhile.

        A tick under way ends first: cut off, it could leave a partition that it has just acquired unserved.
        """
        self._is_stopping = True
        async with self._ticking:
            async with asyncio.TaskGroup() as group:
                for lease in self._loop.leases():
                    group.create_task(self._give_back(lease), name=f"give back {lease.partition}")
            until_s, attempt = self._clock.monotonic_s() + self._ttl_s, 0
            while self._unreleased and self._clock.monotonic_s() < until_s:  # later, others take it anyhow
                await self._clock.sleep(backoff_s(attempt))
                attempt += 1
                await self._release()
            try:
                await self._store.leave()
            except StoreFault as fault:
                log.warning("lease.leave_failed", fault=str(fault))

    def waiting_for(self) -> dict[Partition, str]:
        """Why this worker decides nothing in a partition that it owns, for those where that is so."""
        return {partition: each.reason for partition, each in self._waiting().items() if each.reason is not None}

    async def _tick_for_ever(self) -> None:
        """Ticks every `renew_s`, and at once when a look at the leases of the others shows that some have ended."""
        due_s = -math.inf
        while True:
            try:
                ended = self._watch.ended(await self._store.foreign_leases())
                if ended or self._clock.monotonic_s() >= due_s:
                    due_s = self._clock.monotonic_s() + self._renew_s
                    async with self._ticking:
                        if not self._is_stopping:
                            await self._tick(ended)
                    self._ticked_s, self._fault = self._clock.monotonic_s(), ""
            except StoreFault as fault:
                due_s, self._fault = -math.inf, str(fault)
                log.warning("lease.tick_failed", fault=str(fault))
            await self._clock.sleep(min(LOOK_S, self._renew_s))

    async def _drop_expired_for_ever(self) -> None:
        while True:
            now = self._clock.monotonic_s()
            async with asyncio.TaskGroup() as group:
                # All at once: each has a channel to close, and a broker may take its time.
                for partition in [partition for partition, until in self._valid_until_s.items() if until <= now]:
                    group.create_task(self._lose(partition, "expired"), name=f"lose {partition}")
            await self._clock.sleep(self._renew_s / 4)

    async def _tick(self, ended: Sequence[Lease]) -> None:
        if not self._had_broker():
            await self._give_all_back()
            return
        # A worker counts as alive as long as a lease lasts after its last heartbeat.
        alive = await self._store.heartbeat(self._ttl_s)
        await self._renew()
        await self._release()
        share = fair_share(self._owner, alive, self._partitions)
        held = self._loop.leases()
        for lease in held[share:]:
            await self._give_back(lease)
        for _ in range(share - len(held)):
            if not await self._acquire(ended):
                # A stopped worker may still hold the row lock of its expired lease, in the middle of a COPY, where
                # no server time-out applies.
                freed = await self._store.free_stuck(ended)
                if freed:
                    log.warning("lease.backends_ended", count=freed)
                break
        if len(self._loop.leases()) < self._partitions:
            # Another worker's nudge may have been lost.
            self._inbox.nudge_all()
        metrics.PARTITIONS_OWNED.set(len(self._loop.leases()))

    async def _renew(self) -> None:
        leases = self._loop.leases()
        if not leases:
            return
        began_s = self._clock.monotonic_s()
        renewed = await self._store.renew(leases, self._ttl_s, self._waiting())
        held = {lease.partition: lease for lease in self._loop.leases()}
        for lease in leases:
            if lease.partition in renewed and lease.partition in held:
                self._valid_until_s[lease.partition] = began_s + self._ttl_s
            # Not renewed, but not lost if this worker raised the epoch meanwhile: the next renewal uses the new one.
            elif held.get(lease.partition) == lease:
                await self._lose(lease.partition, "taken")

    def _waiting(self) -> dict[Partition, Waiting]:
        progress = self._loop.progress
        return {
            lease.partition: Waiting(progress.why_waits(lease.partition), progress.oldest_undecided_s(lease.partition))
            for lease in self._loop.leases()
        }

    def _had_broker(self) -> bool:
        """Whether the worker was connected to the broker at some time within the last `ttl_s` seconds."""
        now_s = self._clock.monotonic_s()
        if self._loop.is_connected():
            self._connected_s = now_s
        return now_s - self._connected_s <= self._ttl_s

    async def _give_all_back(self) -> None:
        """Leaves the partitions to workers that reach the broker, and no longer counts as a live worker."""
        for lease in self._loop.leases():
            log.warning("lease.no_broker", partition=lease.partition)
            await self._give_back(lease)
        await self._store.leave()

    async def _acquire(self, ended: Sequence[Lease]) -> bool:
        began_s = self._clock.monotonic_s()
        held = [lease.partition for lease in self._loop.leases()]
        lease = await self._store.acquire(self._ttl_s, ended, held)
        if lease is None:
            return False
        self._unreleased.pop(lease.partition, None)
        try:
            await self._loop.add(lease)
        except StoreFault:
            # Release it, or nobody would serve the partition until the lease expires.
            self._unreleased[lease.partition] = lease
            await self._release()
            raise
        self._valid_until_s[lease.partition] = began_s + self._ttl_s
        metrics.LEASE_CHANGES.labels("taken").inc()
        log.info("lease.taken", partition=lease.partition, epoch=lease.epoch)
        return True

    async def _give_back(self, lease: Lease) -> None:
        await self._loop.give_back(lease.partition)
        self._valid_until_s.pop(lease.partition, None)
        metrics.LEASE_CHANGES.labels("given_back").inc()
        log.info("lease.given_back", partition=lease.partition, epoch=lease.epoch)
        self._unreleased[lease.partition] = lease
        await self._release()

    async def _release(self) -> None:
        """Releases what was given back. A failed release is repeated: else nobody serves it until its lease expires."""
        leases = list(self._unreleased.values())
        if not leases:
            return
        try:
            await self._store.release(leases)
        except StoreFault as fault:
            log.warning("lease.release_failed", partitions=[lease.partition for lease in leases], fault=str(fault))
            return
        for lease in leases:
            if self._unreleased.get(lease.partition) == lease:
                del self._unreleased[lease.partition]

    async def _lose(self, partition: Partition, reason: str) -> None:
        self._valid_until_s.pop(partition, None)
        metrics.LEASE_CHANGES.labels("lost").inc()
        log.warning("lease.lost", partition=partition, reason=reason)
        await self._loop.abandon(partition)
