"""Envelopes as the simulated clients publish them, some of which no worker can apply."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.domain.ids import Partition, subkey
from shared.messages import Command
from shared.messages.envelopes import envelope_body, sign
from tests.builders import SECRET
from tests.twins.broker import MemoryBroker, Message

CLIENT = "client"
NO_SIGNATURE = "no signature"
MAC_KEY = subkey(SECRET, "envelope")


def envelope_message(commands: Sequence[Command]) -> Message:
    """A client's envelope, signed."""
    body = envelope_body(commands)
    return Message(body, sign(MAC_KEY, body), CLIENT)


@dataclass(slots=True)
class EnvelopePublisher:
    """Publishes to a broker. `sent`: what was published for each partition, in the order of the confirms."""

    broker: MemoryBroker
    sent: list[tuple[Partition, Command]] = field(default_factory=list[tuple[Partition, Command]])
    unsigned: int = 0
    misplaced: list[tuple[Partition, Sequence[Command]]] = field(
        default_factory=list[tuple[Partition, Sequence[Command]]]
    )

    def publish(self, partition: Partition, commands: Sequence[Command]) -> None:
        """One envelope for the queue of a partition."""
        self.sent += [(partition, command) for command in commands]
        self.broker.publish(partition, envelope_message(commands))

    def publish_unsigned(self, partition: Partition) -> None:
        """An envelope whose signature does not verify."""
        self.unsigned += 1
        self.broker.publish(partition, Message(f"{{}}{self.unsigned}".encode(), NO_SIGNATURE, CLIENT))

    def publish_misplaced(self, queue: Partition, commands: Sequence[Command]) -> None:
        """An envelope with a command of another partition than `queue`'s."""
        self.misplaced.append((queue, commands))
        self.broker.publish(queue, envelope_message(commands))
