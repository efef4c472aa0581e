"""Finds leases of other workers that have ended, whatever the database's clock says of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.ledger_worker.ports import Clock, ForeignLease, Lease
from shared.domain.ids import Partition

# How often the leases of others are looked at.
LOOK_S: Final = 0.25
# A worker that lost all its connections, and lives, is connected again within this time after the database answers.
ABSENT_S_MAX: Final = 0.6
# After a longer gap between two looks, nobody knows what happened meanwhile: what was seen before it does not count.
GAP_S_MAX: Final = 1.0


@dataclass(slots=True)
class _Observed:
    """A lease as last seen, and the monotonic instants since when it has been unrenewed and its worker absent."""

    seen: ForeignLease
    unrenewed_s: float
    absent_s: float | None


class LeaseWatch:
    """A lease has ended when its worker has no connection to the database left, or was not renewed for `ttl_s`.

    Both are judged by this process's own monotonic clock. The owner itself gives up earlier: it counts from before its
    renewal, and the watch from after it. A wrong judgement costs a change of owner and no more: the fence rejects what
    the old owner still commits.
    """

    def __init__(self, clock: Clock, ttl_s: float) -> None:
        self._clock = clock
        self._ttl_s = ttl_s
        self._observed: dict[Partition, _Observed] = {}
        self._looked_s = clock.monotonic_s()

    def ended(self, leases: Sequence[ForeignLease]) -> list[Lease]:
        """Takes in a look at the leases of all others; returns those that have ended."""
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s > GAP_S_MAX:
            self._observed.clear()
        self._looked_s = now_s
        self._observed = {seen.lease.partition: self._observe(seen, now_s) for seen in leases}
        return [
            observed.seen.lease
            for observed in self._observed.values()
            if now_s - observed.unrenewed_s > self._ttl_s
            or (observed.absent_s is not None and now_s - observed.absent_s >= ABSENT_S_MAX)
        ]

    def _observe(self, seen: ForeignLease, now_s: float) -> _Observed:
        before = self._observed.get(seen.lease.partition)
        if before is None or before.seen.lease != seen.lease:
            return _Observed(seen, now_s, now_s if seen.is_absent else None)
        is_renewed = before.seen.renewal != seen.renewal
        absent_s = before.absent_s if before.absent_s is not None else now_s
        return _Observed(seen, now_s if is_renewed else before.unrenewed_s, absent_s if seen.is_absent else None)
