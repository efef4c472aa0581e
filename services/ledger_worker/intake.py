"""From deliveries to commands: what came in and waits, and what of it can be read."""

import hmac
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from pydantic import ValidationError

from services.ledger_worker import metrics
from services.ledger_worker.core.line import World
from services.ledger_worker.forerunners import Forerunner, Forerunners
from services.ledger_worker.ports import Inbound
from shared.envelopes import ENVELOPE_KIND, envelope_mac
from shared.ids import Partition, subkey
from shared.messages import Command, CommandEnvelope, routed_by

log = structlog.get_logger()

# Behind so many envelopes nothing is taken ahead: a line as long as that is the broker's to keep.
DEPTH_AHEAD_MAX: Final = 64


class EnvelopeRefused(Exception):
    """An envelope that no version of this worker could apply: it is parked. The message is the reason."""


@dataclass(slots=True, eq=False)
class Opened:
    """A delivery and its commands still to be decided, each with its partition; `parked`: why it could not be read.

    A sender puts the commands of all partitions of one worker into one envelope, for the queue of one of them (ADR 11).

    While a command at fault is searched for, an envelope is taken in parts: only the last one is acknowledged.
    """

    inbound: Inbound
    commands: Sequence[tuple[Partition, Command]]
    since_s: float  # monotonic
    parked: str | None = None
    is_last_part: bool = True
    forerunner: Forerunner | None = None

    def finish(self) -> Inbound | None:
        """Nothing more is to be done with it; returns the delivery that can be acknowledged, if there is one yet."""
        if not self.is_last_part:
            return None
        if self.forerunner is None:
            return None if self.inbound.is_ahead else self.inbound
        self.forerunner.is_finished = True
        return self.forerunner.copy

    def split(self, count: int) -> tuple["Opened", "Opened"]:
        """The first `count` commands, and the rest."""
        return (
            Opened(self.inbound, self.commands[:count], self.since_s, is_last_part=False),
            Opened(self.inbound, self.commands[count:], self.since_s, self.parked, self.is_last_part, self.forerunner),
        )


class EnvelopeReader:
    """Opens envelopes: signature, version, content, and which partition each command belongs to."""

    def __init__(self, world: World, secret: str) -> None:
        self._world = world
        self._key = subkey(secret, "envelope")

    def verify(self, inbound: Inbound) -> None:
        """Raises EnvelopeRefused unless it is an envelope with our signature."""
        if inbound.kind != ENVELOPE_KIND:
            raise EnvelopeRefused(f"unknown kind {inbound.kind!r}")
        if inbound.mac is None or not hmac.compare_digest(
            inbound.mac.encode(), envelope_mac(self._key, inbound.body).encode()
        ):
            raise EnvelopeRefused("the signature does not verify")

    def read(self, inbound: Inbound) -> Sequence[tuple[Partition, Command]]:
        """The commands of a verified envelope, in order, each with its partition. Raises EnvelopeRefused."""
        try:
            commands = CommandEnvelope.model_validate_json(inbound.body).commands
        except ValidationError as error:
            raise EnvelopeRefused(
                f"not an envelope: {error.errors(include_input=False, include_url=False)[:3]}"
            ) from error
        return [(self._partition_of(command, inbound), command) for command in commands]

    def _partition_of(self, command: Command, inbound: Inbound) -> Partition:
        account = routed_by(command)
        return inbound.partition if account is None else self._world.partition_of(account)


class Inbox:
    """Deliveries not yet taken, in order for each partition."""

    def __init__(self) -> None:
        self._waiting: dict[Partition, deque[Opened]] = {}

    def add(self, opened: Opened) -> None:
        """Puts a delivery at the end of its line."""
        self._waiting.setdefault(opened.inbound.partition, deque()).append(opened)

    def put_back(self, deliveries: Iterable[Opened]) -> None:
        """Puts deliveries that were taken, in the order they were taken in, back to the heads of their lines."""
        for opened in reversed(list(deliveries)):
            self._waiting.setdefault(opened.inbound.partition, deque()).appendleft(opened)

    def drop(self, partition: Partition) -> None:
        """Forgets what waits for a partition: the broker delivers it again to whoever consumes next."""
        self._waiting.pop(partition, None)

    def drop_delivered(self, partition: Partition) -> None:
        """Forgets what the broker delivered, and will again. What came ahead may be all that there is of it."""
        waiting = self._waiting.get(partition, ())
        self._waiting[partition] = deque(opened for opened in waiting if opened.inbound.is_ahead)

    def depth(self, partition: Partition) -> int:
        """How many envelopes wait for a partition."""
        return len(self._waiting.get(partition, ()))

    def has_work(self, partitions: Iterable[Partition]) -> bool:
        """Whether anything waits for one of these partitions."""
        return any(self._waiting.get(partition) for partition in partitions)

    def take(self, partitions: Iterable[Partition], commands_max: int, *, split: bool) -> list[Opened]:
        """What waits for these partitions, in order: up to `commands_max` commands, or one envelope if that is larger.

        With `split` the bound holds to the command.
        """
        taken: list[Opened] = []
        room = commands_max
        for partition in partitions:
            waiting = self._waiting.get(partition)
            while waiting and room > 0 and (len(waiting[0].commands) <= room or not taken or split):
                opened = waiting.popleft()
                if split and len(opened.commands) > room:
                    opened, rest = opened.split(room)
                    waiting.appendleft(rest)
                taken.append(opened)
                room -= max(1, len(opened.commands))
        return taken

    def oldest_s(self) -> float | None:
        """When the oldest waiting delivery came (monotonic seconds)."""
        return min((waiting[0].since_s for waiting in self._waiting.values() if waiting), default=None)


class Intake:
    """Reads what comes in and puts it into the inbox, once: it may come both from its sender and by the broker."""

    def __init__(self, reader: EnvelopeReader) -> None:
        self._reader = reader
        self._forerunners = Forerunners()
        self.inbox = Inbox()

    def add(self, inbound: Inbound, now_s: float) -> Inbound | None:
        """Never waits. What cannot be read is parked in its turn. Returns a delivery that is finished already."""
        if inbound.redelivered:
            metrics.REDELIVERED.inc()
        try:
            self._reader.verify(inbound)
            if inbound.is_ahead:
                self._add_ahead(inbound, now_s)
                return None
            forerunner = self._forerunners.meet(inbound)
            if forerunner is None:
                self._open(inbound, now_s)
                return None
        except EnvelopeRefused as refused:
            if inbound.is_ahead:
                # The broker's copy of it is parked.
                log.warning("envelope.refused", partition=inbound.partition, reason=str(refused))
            else:
                self.inbox.add(Opened(inbound, (), now_s, parked=str(refused)))
            return None
        forerunner.copy = inbound
        return inbound if forerunner.is_finished else None

    def drop(self, partition: Partition) -> None:
        """Forgets what waits for a partition: the broker delivers it again to whoever consumes next."""
        self.inbox.drop(partition)
        # A copy that met what was dropped here would never be decided.
        self._forerunners.forget(partition)

    def _add_ahead(self, inbound: Inbound, now_s: float) -> None:
        if self._forerunners.is_overtaken(inbound) or self.inbox.depth(inbound.partition) >= DEPTH_AHEAD_MAX:
            return
        commands = self._reader.read(inbound)
        self.inbox.add(Opened(inbound, commands, now_s, forerunner=self._forerunners.add(inbound)))
        metrics.ENVELOPES.labels("direct").inc()

    def _open(self, inbound: Inbound, now_s: float) -> None:
        self.inbox.add(Opened(inbound, self._reader.read(inbound), now_s))
        metrics.ENVELOPES.labels("broker").inc()
