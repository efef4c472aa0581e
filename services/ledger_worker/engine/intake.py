"""The inbox: deliveries that were read and wait to be decided."""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from services.ledger_worker import metrics
from services.ledger_worker.core.decide import deciding_account
from services.ledger_worker.ports import Clock, Delivery
from shared.domain.ids import Partition, partition_of, subkey
from shared.messages import Command, CommandEnvelope
from shared.messages.envelopes import ENVELOPE_KIND, is_signed


class EnvelopeRefused(Exception):
    """No worker could apply this envelope, so it becomes a dead letter. The message says why."""


@dataclass(slots=True, eq=False)
class PendingDelivery:
    """A delivery and those of its commands that are still to be decided. `refused`: why it cannot be read.

    `is_suspect`: one of these commands, or of others that are suspect as well, made a commit fail. They are then taken
    in parts; only an envelope's last part is acknowledged.
    """

    delivery: Delivery
    commands: Sequence[Command]
    since_s: float  # monotonic
    refused: str | None = None
    is_last_part: bool = True
    is_suspect: bool = False

    def split(self, count: int) -> tuple["PendingDelivery", "PendingDelivery"]:
        """The first `count` commands, and the rest."""
        return (
            replace(self, commands=self.commands[:count], refused=None, is_last_part=False),
            replace(self, commands=self.commands[count:]),
        )


class Inbox:
    """Deliveries for the open partitions, in the order of their queues. `wake`: there may be work for the commit loop.

    An envelope may be signed with any of `secrets`. Deliveries come from the consumer by plain calls, which never wait.
    """

    def __init__(self, partitions: int, secrets: Sequence[str], clock: Clock) -> None:
        self.wake = asyncio.Event()
        # Source and destination → the last batch whose transit row is said to wait; `_all_nudged`: of any source.
        self._nudges: dict[tuple[Partition, Partition], int] = {}
        self._all_nudged = False
        self._partitions = partitions
        self._mac_keys = [subkey(secret, "envelope") for secret in secrets]
        self._clock = clock
        # In the order in which they are served: a partition from which something was taken moves to the end.
        self._waiting: dict[Partition, deque[PendingDelivery]] = {}
        self._suspected_max: int | None = None

    def open(self, partition: Partition) -> None:
        """From now on deliveries of this partition are taken in."""
        self._waiting[partition] = deque()

    def close(self, partition: Partition) -> None:
        """Forgets what waits for the partition: the broker delivers it again to whoever consumes next."""
        self._waiting.pop(partition, None)

    # What the consumer calls.

    def deliver(self, delivery: Delivery) -> None:
        """Takes a delivery in. One that cannot be read becomes a dead letter when its turn comes."""
        waiting = self._waiting.get(delivery.partition)
        if waiting is None:
            return  # given back or lost: its channel is being closed, and the broker delivers to the next owner
        if delivery.redelivered:
            metrics.REDELIVERED.inc()
        commands: Sequence[Command] = ()
        refused = None
        try:
            commands = self._read(delivery)
        except EnvelopeRefused as error:
            refused = str(error)
        metrics.ENVELOPES.inc()
        waiting.append(PendingDelivery(delivery, commands, self._clock.monotonic_s(), refused))
        self.wake.set()

    def nudge(self, source: Partition, destination: Partition, batch: int) -> None:
        """Notes that the transit row of that batch waits. Only the first one wakes: it says when to look."""
        if not self.is_nudged:
            self.wake.set()
        self._nudges[source, destination] = max(batch, self._nudges.get((source, destination), 0))

    def channel_lost(self, partition: Partition) -> None:
        """Drops what waits for the partition: its channel is closed, so the broker will deliver it again."""
        if partition in self._waiting:
            self._waiting[partition].clear()

    # What the engine calls.

    def nudge_all(self) -> None:
        """Notes that transit rows of any other partition may wait."""
        self._all_nudged = self._partitions > 1
        self.wake.set()

    @property
    def is_nudged(self) -> bool:
        """Whether a transit row may wait."""
        return self._all_nudged or bool(self._nudges)

    def take_nudges(self) -> Mapping[tuple[Partition, Partition], int] | None:
        """Forgets all nudges. Returns source and destination → last batch; None if rows of any pair may wait."""
        taken = None if self._all_nudged else self._nudges
        self._nudges, self._all_nudged = {}, False
        return taken

    def has_work(self, partitions: Iterable[Partition]) -> bool:
        """Whether anything waits for one of these partitions."""
        return any(self._waiting.get(partition) for partition in partitions)

    def take(self, partitions: Iterable[Partition], commands_max: int) -> list[PendingDelivery]:
        """What waits for these partitions, in order: up to `commands_max` commands, or one envelope if that is larger.

        While suspect deliveries wait, only these are taken, and an envelope beyond the bound is divided. A partition
        that was served comes last the next time, so that none waits for the end of another's backlog.
        """
        wanted = set(partitions)
        split = self.suspected_max(wanted) is not None
        taken: list[PendingDelivery] = []
        room = commands_max
        for partition in [partition for partition in self._waiting if partition in wanted]:
            waiting = self._waiting[partition]
            while waiting and room > 0 and (waiting[0].is_suspect if split else _fits(waiting[0], room, taken)):
                pending = waiting.popleft()
                if split and len(pending.commands) > room:
                    pending, rest = pending.split(room)
                    waiting.appendleft(rest)
                taken.append(pending)
                room -= max(1, len(pending.commands))
        for partition in {pending.delivery.partition: None for pending in taken}:
            self._waiting[partition] = self._waiting.pop(partition)
        return taken

    def suspect(self, failed: Sequence[PendingDelivery], commands_max: int) -> None:
        """Until these were taken again, `take` gives nothing else. They must have been put back.

        `commands_max`: how many of their commands the next groups may hold.
        """
        for waiting in self._waiting.values():
            for pending in waiting:
                pending.is_suspect = False
        for pending in failed:
            pending.is_suspect = True
        self._suspected_max = commands_max if failed else None

    def suspected_max(self, partitions: Iterable[Partition]) -> int | None:
        """How many commands a group may hold while suspect ones of these partitions wait; None when none waits."""
        if self._suspected_max is None:
            return None
        if not any(waiting and waiting[0].is_suspect for waiting in map(self._waiting.get, partitions)):
            self._suspected_max = None
        return self._suspected_max

    def put_back(self, taken: Iterable[PendingDelivery]) -> None:
        """Puts deliveries back to where they were taken from, in the order in which they were taken.

        Those of partitions that were closed meanwhile are dropped.
        """
        for pending in reversed(list(taken)):
            waiting = self._waiting.get(pending.delivery.partition)
            if waiting is not None:
                waiting.appendleft(pending)

    def first(self) -> list[PendingDelivery]:
        """The first that waits, of each partition that has one."""
        return [waiting[0] for waiting in self._waiting.values() if waiting]

    def _read(self, delivery: Delivery) -> Sequence[Command]:
        """The commands of an envelope, in order. Raises EnvelopeRefused."""
        if delivery.kind != ENVELOPE_KIND:
            raise EnvelopeRefused(f"unknown kind {delivery.kind!r}")
        if not is_signed(self._mac_keys, delivery.body, delivery.mac):
            raise EnvelopeRefused("the signature does not verify")
        try:
            commands = CommandEnvelope.model_validate_json(delivery.body).commands
        except ValidationError as error:
            faults = error.errors(include_input=False, include_url=False)
            raise EnvelopeRefused(f"not an envelope: {faults[:3]}") from error
        for command in commands:
            account = deciding_account(command)
            if account is not None and partition_of(account, self._partitions) != delivery.partition:
                raise EnvelopeRefused(f"command {command.id} belongs to another partition than its queue")
        return commands


def _fits(pending: PendingDelivery, room: int, taken: Sequence[PendingDelivery]) -> bool:
    return len(pending.commands) <= room or not taken
