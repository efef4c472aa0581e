"""Which partitions this worker owns: leases by the database's clock, shares by the workers alive (DESIGN §4.2)."""

import asyncio
from typing import Final

import structlog

from services.ledger_worker import metrics
from services.ledger_worker.ports import Clock, Lease, Store, StoreFault
from services.ledger_worker.teller import Teller
from shared.ids import Partition

log = structlog.get_logger()

ALIVE_FACTOR: Final = 1.0  # a worker counts as alive for as long as its leases would last


def fair_share(owner: str, alive: list[str], partitions: int) -> int:
    """How many partitions `owner` should have: P divided among the living, the rest to the first of them by id.

    `ceil(P / N)` for all would leave the last worker with nothing (P = 4, N = 3: 2, 2, 0); this gives 2, 1, 1.
    """
    if owner not in alive:
        return 0
    return partitions // len(alive) + (alive.index(owner) < partitions % len(alive))


class LeaseKeeper:
    """Renews, takes and gives back. A lease that has run out on the worker's own clock is abandoned at once."""

    def __init__(
        self,
        *,
        owner: str,
        store: Store,
        teller: Teller,
        clock: Clock,
        partitions: int,
        ttl_s: float,
        renew_s: float,
    ) -> None:
        self._owner = owner
        self._store = store
        self._teller = teller
        self._clock = clock
        self._partitions = partitions
        self._ttl_s = ttl_s
        self._renew_s = renew_s
        self._valid_until_s: dict[Partition, float] = {}
        self._heard_s = clock.monotonic_s()
        self.last_tick_s: float | None = None

    async def run(self) -> None:
        """Ticks until cancelled; watches its own clock meanwhile, also when the database does not answer."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick_for_ever(), name="lease ticks")
            group.create_task(self._watch_for_ever(), name="lease watch")

    async def stop(self) -> None:
        """Gives everything back cleanly: finish, acknowledge, close, release, leave."""
        async with asyncio.TaskGroup() as group:
            for lease in self._teller.leases():
                group.create_task(self._give_back(lease), name=f"give back {lease.partition}")
        try:
            await self._store.leave(self._owner)
        except StoreFault as fault:
            log.warning("lease.leave_failed", fault=str(fault))

    async def _tick_for_ever(self) -> None:
        while True:
            try:
                await self._tick()
                self.last_tick_s = self._clock.monotonic_s()
            except StoreFault as fault:
                log.warning("lease.tick_failed", fault=str(fault))
            await self._clock.sleep(self._renew_s)

    async def _watch_for_ever(self) -> None:
        while True:
            now = self._clock.monotonic_s()
            async with asyncio.TaskGroup() as group:
                # All at once: each has a channel to close, and a broker may take its time.
                for partition in [partition for partition, until in self._valid_until_s.items() if until <= now]:
                    group.create_task(self._lose(partition, "expired"), name=f"lose {partition}")
            await self._clock.sleep(self._renew_s / 4)

    async def _tick(self) -> None:
        if not self._hears():
            await self._sit_out()
            return
        alive = await self._store.heartbeat(self._owner, self._ttl_s * ALIVE_FACTOR)
        await self._renew()
        share = fair_share(self._owner, alive, self._partitions)
        held = self._teller.leases()
        for lease in held[share:]:
            await self._give_back(lease)
        missing = share - len(held)
        for _ in range(missing):
            if not await self._acquire():
                # The row of an expired lease may be locked by a stopped worker inside its COPY: no server time-out
                # acts there.
                freed = await self._store.free_stuck()
                if freed:
                    log.warning("lease.backends_ended", count=freed)
                break
        # With every partition here, what goes through transit is folded as soon as its commit has ended.
        if len(self._teller.leases()) < self._partitions:
            self._teller.nudge(Partition(0))
        metrics.PARTITIONS_OWNED.set(len(self._teller.leases()))

    async def _renew(self) -> None:
        leases = self._teller.leases()
        if not leases:
            return
        began = self._clock.monotonic_s()
        renewed = await self._store.renew(self._owner, leases, self._ttl_s)
        held = {lease.partition: lease for lease in self._teller.leases()}
        for lease in leases:
            if lease.partition in renewed and lease.partition in held:
                self._valid_until_s[lease.partition] = began + self._ttl_s
            # An epoch raised meanwhile by the teller is no loss: the next renewal carries it.
            elif held.get(lease.partition) == lease:
                await self._lose(lease.partition, "taken")

    def _hears(self) -> bool:
        """Whether the worker had a broker within the time of a lease."""
        now = self._clock.monotonic_s()
        if self._teller.hears():
            self._heard_s = now
        return now - self._heard_s <= self._ttl_s

    async def _sit_out(self) -> None:
        """A worker without a broker leaves its partitions to those that have one, and counts again once it hears."""
        for lease in self._teller.leases():
            log.warning("lease.not_heard", partition=lease.partition)
            await self._give_back(lease)
        await self._store.leave(self._owner)

    async def _acquire(self) -> bool:
        began = self._clock.monotonic_s()
        lease = await self._store.acquire(self._owner, self._ttl_s)
        if lease is None:
            return False
        try:
            await self._teller.add(lease)
        except StoreFault:
            # Nobody would serve it until the lease runs out.
            await self._store.release(self._owner, [lease])
            raise
        self._valid_until_s[lease.partition] = began + self._ttl_s
        metrics.LEASE_CHANGES.labels("taken").inc()
        log.info("lease.taken", partition=lease.partition, epoch=lease.epoch)
        return True

    async def _give_back(self, lease: Lease) -> None:
        await self._teller.give_back(lease.partition)
        self._valid_until_s.pop(lease.partition, None)
        metrics.LEASE_CHANGES.labels("given_back").inc()
        log.info("lease.given_back", partition=lease.partition, epoch=lease.epoch)
        try:
            await self._store.release(self._owner, [lease])
        except StoreFault as fault:
            log.warning("lease.release_failed", partition=lease.partition, fault=str(fault))

    async def _lose(self, partition: Partition, reason: str) -> None:
        self._valid_until_s.pop(partition, None)
        metrics.LEASE_CHANGES.labels("lost").inc()
        log.warning("lease.lost", partition=partition, reason=reason)
        await self._teller.abandon(partition)
