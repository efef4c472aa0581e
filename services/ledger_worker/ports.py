"""The narrow ways from the worker's shell to the store, the bus and the clock.

Each has a real end and an in-memory twin.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from services.ledger_worker.core.accounts import Account, AccountFacts, Hold, Status
from services.ledger_worker.core.line import Known
from shared.ids import AccountId, AssetCode, HoldId, Partition
from shared.messages import BatchEvent, Command, Reply
from shared.values import value


class StoreFault(Exception):
    """The store did not do what was asked; nothing is known to be written unless the subclass says otherwise."""


class StoreUnavailable(StoreFault):
    """No database, a deadlock, a time-out, a full disk: the same may succeed later."""


class CommitUnknown(StoreFault):
    """The connection was lost while a batch was being written: it may be in the journal. Raise the epoch, then read."""


class Fenced(StoreFault):
    """Another worker owns one of these partitions by now. Nothing was written, and nothing more may be."""


class RepeatFound(StoreFault):
    """One of the operations is in the journal already: look them all up, then decide again."""


class PictureStale(StoreFault):
    """What the batch was decided on is not what the journal says: drop it, read again, decide again."""


class RowRefused(StoreFault):
    """The database refuses a value of the batch (SQLSTATE 22…, 23…): one command of it is at fault."""


class Redo(StoreFault):
    """What was decided and not committed must be decided again; the database is not at fault."""


@value
class Head:
    """Where a partition's journal ends: its last batch, and its cursors over the others' transit rows."""

    batch: int
    cursors: Mapping[Partition, int]


@value
class Sealed:
    """One partition's batch, ready to be written. `lines` are COPY text by table.

    `cursors` and `cleared` are JSON objects: source → last batch folded in; destination → the batch of the same commit
    that took credits of this one.
    """

    partition: Partition
    batch: int
    epoch: int
    lines: Mapping[str, Sequence[str]]
    assets: Sequence[str]
    account_changes: Mapping[AccountId, tuple[Status, str | None]]
    cursors: str
    cleared: str
    content_hash: bytes


@value
class TransitRow:
    """The credits of one source batch for one destination, as they stand in the journal."""

    source: Partition
    batch: int
    destination: Partition
    credits: str


@value
class Lease:
    """A partition that this worker owns under this epoch."""

    partition: Partition
    epoch: int


class Store(Protocol):
    """The journal and the leases. Every method may raise StoreUnavailable."""

    async def assets(self) -> dict[AssetCode, int]:
        """Every asset with its scale."""
        ...

    async def accounts(self, wanted: Sequence[AccountId]) -> list[tuple[Account, Partition]]:
        """Those accounts that exist, in the state after their last entry, with their partition."""
        ...

    async def holds(self, wanted: Sequence[HoldId]) -> list[Hold]:
        """Those holds that exist."""
        ...

    async def known(self, wanted: Sequence[str]) -> dict[str, Known]:
        """Those operations that are in the journal."""
        ...

    async def heads(self, partitions: Sequence[Partition]) -> dict[Partition, Head]:
        """The last batch of each partition (0 when it has none)."""
        ...

    async def pending_transit(
        self,
        cursors: Sequence[tuple[Partition, Partition, int]],
        rows_max: int,
    ) -> list[TransitRow]:
        """Transit rows past the cursors (destination, source, batch), in order for each pair; at most `rows_max`."""
        ...

    async def transit_totals(self, row: TransitRow) -> list[tuple[AssetCode, int]]:
        """What the source's journal says that a transit row carries, in minor units per asset."""
        ...

    async def commit(self, owner: str, batches: Sequence[Sealed]) -> dict[Partition, int]:
        """Writes all batches in one fenced transaction; returns recorded_at in µs. Raises any StoreFault."""
        ...

    async def heartbeat(self, owner: str, alive_s: float) -> list[str]:
        """Says that this worker lives; returns all that do, in order of their ids."""
        ...

    async def renew(self, owner: str, leases: Iterable[Lease], ttl_s: float) -> set[Partition]:
        """Extends the leases that are still this worker's under that epoch."""
        ...

    async def acquire(self, owner: str, ttl_s: float) -> Lease | None:
        """Takes one partition that nobody owns or whose lease has run out, under a new epoch."""
        ...

    async def free_stuck(self) -> int:
        """Ends the backends of expired leases whose row is still locked; returns how many."""
        ...

    async def release(self, owner: str, leases: Iterable[Lease]) -> None:
        """Gives partitions back."""
        ...

    async def raise_epochs(self, owner: str, leases: Iterable[Lease]) -> list[Lease]:
        """After CommitUnknown: waits for the old backend, fences it, and returns the leases that are still ours."""
        ...

    async def leave(self, owner: str) -> None:
        """Stops counting this worker among the living."""
        ...


@value
class Inbound:
    """One delivery from a partition's queue. `channel` and `tag` are the bus's own, for the acknowledgement.

    Without a channel it came straight from its sender, ahead of the broker's delivery of the same (ADR 15).
    """

    partition: Partition
    body: bytes
    mac: str | None
    reply_to: str | None
    redelivered: bool
    channel: object | None
    tag: int
    kind: str | None = None
    message_id: str | None = None

    @property
    def is_ahead(self) -> bool:
        """Whether the broker delivers it as well, before or later."""
        return self.channel is None


class Bus(Protocol):
    """Deliveries come through the callback given to the bus, in order for each partition."""

    async def open(self, partition: Partition) -> None:
        """Starts consuming the partition's queue on a channel of its own; keeps trying until `close`."""
        ...

    def is_ready(self) -> bool:
        """Whether there is a broker to consume from and to publish to."""
        ...

    async def close(self, partition: Partition) -> None:
        """Closes the channel: what is not acknowledged goes back to the head of the queue, in order.

        Nothing of that channel is delivered from this call on, however much of it was on its way.
        """
        ...

    def acknowledge(self, done: Inbound) -> None:
        """Nothing more is to be done with this delivery: it is acknowledged soon, before `close` at the latest.

        Not before all that came before it on its channel, of which this may not be said yet. Nothing if that channel is
        gone.
        """
        ...

    async def reply(self, reply_to: str, reply: Reply) -> None:
        """Sends outcomes; a loss is harmless."""
        ...

    async def nudge(self, source: Partition, destination: Partition) -> None:
        """Tells the destination's owner that a transit row waits; a loss is harmless."""
        ...

    async def send_on(self, partition: Partition, reply_to: str | None, commands: Sequence[Command]) -> None:
        """Puts commands into the queue of their own partition, confirmed. Raises shared.amqp.BusError."""
        ...

    async def park(self, inbound: Inbound, reason: str) -> None:
        """Puts a copy of a delivery where an operator sees it, confirmed. Raises shared.amqp.BusError."""
        ...

    def announce(self, partition: Partition, event: BatchEvent) -> None:
        """Queues an event for publication."""
        ...


class Clock(Protocol):
    """Time as the shell sees it."""

    def monotonic_s(self) -> float:
        """Seconds that only grow."""
        ...

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        ...


__all__ = [
    "AccountFacts",
    "Bus",
    "Clock",
    "CommitUnknown",
    "Fenced",
    "Head",
    "Inbound",
    "Lease",
    "PictureStale",
    "Redo",
    "RepeatFound",
    "RowRefused",
    "Sealed",
    "Store",
    "StoreFault",
    "StoreUnavailable",
    "TransitRow",
]
