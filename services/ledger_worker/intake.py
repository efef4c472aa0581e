"""From deliveries to commands: what came in and waits, and what of it can be read."""

import hmac
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from services.ledger_worker.core.line import World
from services.ledger_worker.ports import Inbound
from shared.envelopes import ENVELOPE_KIND, envelope_mac
from shared.ids import Partition, subkey
from shared.messages import Command, CommandEnvelope, routed_by


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

    def split(self, count: int) -> tuple["Opened", "Opened"]:
        """The first `count` commands, and the rest."""
        return (
            Opened(self.inbound, self.commands[:count], self.since_s, is_last_part=False),
            Opened(self.inbound, self.commands[count:], self.since_s, self.parked, self.is_last_part),
        )


class EnvelopeReader:
    """Opens envelopes: signature, version, content, and which partition each command belongs to."""

    def __init__(self, world: World, secret: str) -> None:
        self._world = world
        self._key = subkey(secret, "envelope")

    def read(self, inbound: Inbound) -> Sequence[tuple[Partition, Command]]:
        """The commands of one envelope, in order, each with its partition. Raises EnvelopeRefused."""
        if inbound.kind != ENVELOPE_KIND:
            raise EnvelopeRefused(f"unknown kind {inbound.kind!r}")
        if inbound.mac is None or not hmac.compare_digest(
            inbound.mac.encode(), envelope_mac(self._key, inbound.body).encode()
        ):
            raise EnvelopeRefused("the signature does not verify")
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
