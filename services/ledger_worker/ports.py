"""The interfaces through which the engine uses the database, the broker and the clock.

Each has a real implementation, and an in-memory twin in the tests.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from services.ledger_worker.core.accounts import Account, Hold
from services.ledger_worker.core.batch import SealedBatch
from services.ledger_worker.core.outcomes import KnownOutcome
from shared.domain.ids import AccountId, AssetCode, HoldId, Partition
from shared.domain.values import value
from shared.messages import BatchEvent, Reply


class StoreFault(Exception):
    """The store did not do what was asked. Nothing is known to be written, unless the subclass says otherwise."""


class StoreUnavailable(StoreFault):
    """No connection, a deadlock, a statement time-out, a full disk: the same call may succeed later."""


class CommitUnknown(StoreFault):
    """The connection was lost while a batch was being written, so it may be in the journal."""


class Fenced(StoreFault):
    """Another worker owns one of these partitions. Nothing was written."""


class RepeatFound(StoreFault):
    """One of the operations is in the journal already. Nothing was written."""


class StaleRead(StoreFault):
    """The batch was decided on state that does not match the journal. Nothing was written."""


class RowRefused(StoreFault):
    """The database refuses content of the batch (SQLSTATE class 22 or 23, TL001), so one command is at fault."""


class DecideAgain(StoreFault):
    """All decisions that are not committed must be discarded and made again. The database is not at fault."""


@value
class JournalHead:
    """Where a partition's journal ends: its last batch, and its cursors over other partitions' transit rows."""

    batch: int
    cursors: Mapping[Partition, int]


@value
class TransitRow:
    """The credits of one source batch for one destination. `credits` is JSON, see shared.journal.transit."""

    source: Partition
    batch: int
    destination: Partition
    credits: str


@value
class PendingTransit:
    """Transit rows that wait, in order for each pair of partitions. `is_more`: others may wait as well."""

    rows: Sequence[TransitRow]
    is_more: bool


@value
class Lease:
    """A partition that this worker owns under this epoch."""

    partition: Partition
    epoch: int


@value
class Waiting:
    """What waits in a partition, as its owner sees it. `reason`: why nothing is decided; None while it goes on.

    `oldest_s`: for how many seconds the oldest message that is not decided has been with the owner; 0 if there is none.
    """

    reason: str | None = None
    oldest_s: float = 0.0


@value
class ForeignLease:
    """Another worker's lease as the database shows it. `renewal` changes with each renewal and says nothing else.

    `is_absent`: no connection of that worker to the database is left.
    """

    lease: Lease
    renewal: str
    is_absent: bool


class Store(Protocol):
    """The journal and the leases, for one worker. Every method may raise StoreUnavailable."""

    async def assets(self) -> dict[AssetCode, int]:
        """Every asset with its scale."""
        ...

    async def accounts(self, wanted: Sequence[AccountId]) -> list[Account]:
        """Those of the accounts that exist, as their last entry left them."""
        ...

    async def metadata(self, wanted: Sequence[AccountId]) -> dict[AccountId, str | None]:
        """Metadata as JSON text, of those of the accounts that exist; None where there is none."""
        ...

    async def holds(self, wanted: Sequence[HoldId]) -> list[Hold]:
        """Those of the holds that exist, open or ended."""
        ...

    async def known(self, wanted: Sequence[str]) -> dict[str, KnownOutcome]:
        """The outcomes of those operations that are in the journal, by id."""
        ...

    async def heads(self, partitions: Sequence[Partition]) -> dict[Partition, JournalHead]:
        """Where each partition's journal ends; batch 0 and no cursors when it has no batch."""
        ...

    async def pending_transit(
        self,
        cursors: Sequence[tuple[Partition, Partition, int]],
        rows_max: int,
        size_max: int,
    ) -> PendingTransit:
        """Transit rows past the cursors (destination, source, batch), of which there is at least one.

        At most `rows_max` rows, or one for each cursor if that is more: taken from the pairs by turns, until their
        credits have `size_max` bytes or more.
        """
        ...

    async def transit_totals(self, row: TransitRow) -> list[tuple[AssetCode, int]]:
        """What the source's journal says that a transit row carries, in minor units for each asset."""
        ...

    async def commit(self, batches: Sequence[SealedBatch]) -> dict[Partition, int]:
        """Writes all batches in one fenced transaction.

        Returns recorded_at of each, in microseconds since 1970 UTC. Raises any StoreFault.
        """
        ...

    async def heartbeat(self, alive_s: float) -> list[str]:
        """Records that this worker is alive.

        Returns, sorted, the ids of all workers that are connected and were seen within `alive_s` seconds.
        """
        ...

    async def renew(
        self, leases: Iterable[Lease], ttl_s: float, waiting: Mapping[Partition, Waiting] | None = None
    ) -> set[Partition]:
        """Extends the leases that are still this worker's under that epoch; returns their partitions.

        `waiting`: of each of the partitions; None leaves what was written before.
        """
        ...

    async def foreign_leases(self) -> list[ForeignLease]:
        """The leases of all other workers."""
        ...

    async def acquire(
        self, ttl_s: float, ended: Sequence[Lease] = (), held: Sequence[Partition] | None = None
    ) -> Lease | None:
        """Takes one partition under a new epoch; None if there is none to take.

        One that has no owner, whose lease has expired by the database's clock, or whose lease is among `ended`; or one
        that is this worker's already but not among `held`, since the answer to an earlier call was lost.
        """
        ...

    async def free_stuck(self, ended: Sequence[Lease] = ()) -> int:
        """Terminates backends that are still in a transaction for an expired lease or one of `ended`.

        Returns how many.
        """
        ...

    async def release(self, leases: Iterable[Lease]) -> None:
        """Gives partitions back, also if this worker raised the epoch since."""
        ...

    async def raise_epochs(self, leases: Iterable[Lease]) -> list[Lease]:
        """After CommitUnknown: waits for the old backend and fences it off. Returns the kept leases with new epochs."""
        ...

    async def leave(self) -> None:
        """Removes this worker from the workers that are alive."""
        ...


@value
class Delivery:
    """One delivery from a partition's queue. Only the consumer uses `channel` and `tag`, to acknowledge it."""

    partition: Partition
    body: bytes
    mac: object
    reply_to: str | None
    redelivered: bool
    channel: object
    tag: int
    kind: str | None = None
    retries: object = None  # how often an operator has sent it back, if ever


class Consumer(Protocol):
    """Consumes partition queues. Deliveries reach the engine by a callback, in order for each partition."""

    async def open(self, partition: Partition) -> None:
        """Starts to consume the partition's queue on a channel of its own, and keeps trying until `close`."""
        ...

    async def close(self, partition: Partition) -> None:
        """Closes the channel: what is not acknowledged goes back to the head of the queue, in order.

        Nothing more of that channel is delivered from this call on. A slow broker may close it only after this returns.
        """
        ...

    def is_ready(self) -> bool:
        """True while connected to the broker."""
        ...

    def is_consuming(self, partition: Partition) -> bool:
        """True while the partition's channel is open with its consumer."""
        ...

    def acknowledge(self, delivery: Delivery) -> None:
        """Acknowledges this delivery and all before it on its channel: soon, and before `close` at the latest.

        Does nothing when that channel is gone.
        """
        ...


class Publisher(Protocol):
    """Publishes the messages that follow a commit."""

    def is_ready(self) -> bool:
        """True while connected to the broker."""
        ...

    async def reply(self, reply_to: str, reply: Reply) -> None:
        """Sends outcomes to a reply queue. A loss is harmless: they stand in the journal."""
        ...

    async def nudge(self, source: Partition, destination: Partition, batch: int) -> None:
        """Tells the destination's owner that the transit row of that batch waits. A loss is harmless: it also polls."""
        ...

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """Puts a copy of the delivery into the dead-letter queue, confirmed. Raises PublishFailed."""
        ...

    def announce(self, partition: Partition, event: BatchEvent) -> None:
        """Queues an event for publication, without waiting. A loss is harmless: it is in the journal."""
        ...


class Clock(Protocol):
    """The time, and waiting for it to pass. Tests replace it."""

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    def now_ns(self) -> int:
        """Nanoseconds since 1970 UTC."""
        ...

    async def sleep(self, seconds: float, /) -> None:
        """Waits for that many seconds."""
        ...
