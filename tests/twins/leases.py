"""The leasing part of ports.Store in memory."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

from services.ledger_worker.ports import ForeignLease, Lease, StoreUnavailable, Waiting
from shared.domain.ids import Partition
from tests.twins.faults import Fault
from tests.twins.journal import Journal


class MemoryLeases(ABC):
    """What one worker sees and changes of the rows of `partitions` and `workers`."""

    journal: Journal
    owner: str

    @abstractmethod
    async def _call(self, method: str) -> None:
        """One round trip; raises the method's fault."""

    @abstractmethod
    def _fault(self, method: str) -> Fault | None: ...

    @abstractmethod
    async def _unlocked(self, partitions: Sequence[int]) -> None:
        """Waits until nobody holds the rows."""

    async def heartbeat(self, alive_s: float) -> list[str]:
        await self._call("heartbeat")
        now = self.journal.now_us()
        self.journal.workers[self.owner] = now
        return sorted(
            worker
            for worker, seen in self.journal.workers.items()
            if worker in self.journal.connected and abs(now - seen) < alive_s * 1e6
        )

    async def renew(
        self, leases: Iterable[Lease], ttl_s: float, waiting: Mapping[Partition, Waiting] | None = None
    ) -> set[Partition]:
        await self._call("renew")
        wanted = list(leases)
        await self._unlocked([lease.partition for lease in wanted])
        renewed: set[Partition] = set()
        for lease in wanted:
            row = self.journal.owners[lease.partition]
            if row.owner == self.owner and row.epoch == lease.epoch:
                row.expires_us = self._after(ttl_s)
                if waiting is not None:
                    each = waiting.get(lease.partition, Waiting())
                    row.waiting_for, row.waiting_s = each.reason, each.oldest_s
                renewed.add(lease.partition)
        return renewed

    async def foreign_leases(self) -> list[ForeignLease]:
        await self._call("foreign_leases")
        return [
            ForeignLease(
                Lease(Partition(partition), row.epoch), str(row.expires_us), row.owner not in self.journal.connected
            )
            for partition, row in enumerate(self.journal.owners)
            if row.owner not in {None, self.owner}
        ]

    async def acquire(
        self, ttl_s: float, ended: Sequence[Lease] = (), held: Sequence[Partition] | None = None
    ) -> Lease | None:
        await self._call("acquire")
        for partition, row in enumerate(self.journal.owners):
            is_unknown = held is not None and row.owner == self.owner and partition not in held
            if (is_unknown or self._is_free(partition, ended)) and partition not in self.journal.locks:
                row.owner, row.epoch = self.owner, row.epoch + 1
                row.expires_us, row.waiting_for, row.waiting_s = self._after(ttl_s), None, 0.0
                if self._fault("acquire.after"):
                    raise StoreUnavailable("injected after it was acquired")
                return Lease(Partition(partition), row.epoch)
        return None

    async def free_stuck(self, ended: Sequence[Lease] = ()) -> int:
        await self._call("free_stuck")
        free = [row.owner for partition, row in enumerate(self.journal.owners) if self._is_free(partition, ended)]
        owners = set(free) - {None}
        stuck = {backend for backend in self.journal.locks.values() if backend.owner in owners and not backend.is_ended}
        for backend in stuck:
            backend.is_ended = True
        return len(stuck)

    async def release(self, leases: Iterable[Lease]) -> None:
        await self._call("release")
        wanted = list(leases)
        await self._unlocked([lease.partition for lease in wanted])
        for lease in wanted:
            row = self.journal.owners[lease.partition]
            if row.owner == self.owner and row.epoch >= lease.epoch:
                row.owner, row.expires_us, row.waiting_for, row.waiting_s = None, -(2**62), None, 0.0

    async def raise_epochs(self, leases: Iterable[Lease]) -> list[Lease]:
        await self._call("raise_epochs")
        wanted = list(leases)
        await self._unlocked([lease.partition for lease in wanted])
        raised: list[Lease] = []
        for lease in wanted:
            row = self.journal.owners[lease.partition]
            if row.owner == self.owner and row.epoch >= lease.epoch:
                row.epoch += 1
                raised.append(Lease(lease.partition, row.epoch))
        if self._fault("raise_epochs.after"):
            raise StoreUnavailable("injected after the epochs were raised")
        return raised

    async def leave(self) -> None:
        await self._call("leave")
        self.journal.workers.pop(self.owner, None)

    def _is_free(self, partition: int, ended: Sequence[Lease]) -> bool:
        row = self.journal.owners[partition]
        is_ended = Lease(Partition(partition), row.epoch) in ended
        return row.owner is None or row.expires_us < self.journal.now_us() or is_ended

    def _after(self, seconds: float) -> int:
        return self.journal.now_us() + int(seconds * 1e6)
