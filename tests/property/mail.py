"""How envelopes leave the simulated clients: by the broker alone, or straight to a worker as well."""

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from shared.envelopes import envelope_mac
from shared.ids import Partition, subkey
from shared.messages import Command, CommandEnvelope
from tests.builders import SECRET
from tests.property.simulated_worker import Worker
from tests.twins.bus import Broker, Message
from tests.twins.journal import Journal

CLIENT = "client"
MAC_KEY = subkey(SECRET, "envelope")


class Mail:
    """`ahead`: how often an envelope goes ahead of the broker (ADR 15)."""

    def __init__(
        self,
        lots: random.Random,
        broker: Broker,
        journal: Journal,
        workers: Sequence[Worker],
        delay: Callable[[], float],
    ) -> None:
        self._lots = lots
        self._broker = broker
        self._journal = journal
        self._workers = workers
        self._delay = delay
        self.ahead = lots.choice((0.0, 0.5, 1.0))
        self._ids = (f"message-{number}" for number in itertools.count())
        self.went_ahead: set[str] = set()  # ids of commands
        self.on_their_way = 0
        self.unreadable = 0

    def post(self, place: Partition, commands: Sequence[Command]) -> None:
        """One envelope for the queue of a partition."""
        message = self.envelope(commands)
        if self._lots.random() < self.ahead:
            self.went_ahead |= {command.id for command in commands}
            self._send_ahead(place, message)
        else:
            self._broker.publish(place, message)

    def envelope(self, commands: Sequence[Command]) -> Message:
        """A client's, signed."""
        body = CommandEnvelope(commands=tuple(commands)).model_dump_json().encode()
        return Message(body, envelope_mac(MAC_KEY, body), CLIENT, message_id=next(self._ids))

    def post_unreadable(self, place: Partition) -> None:
        """What a worker cannot verify, and parks."""
        self.unreadable += 1
        self._broker.publish(place, Message(b"{}", "no signature", CLIENT))

    def _send_ahead(self, place: Partition, message: Message) -> None:
        """To whom its sender takes for the owner; the broker has it at the same time, sooner or later."""
        owner = self._journal.owners[place].owner
        taken_for_it = [worker for worker in self._workers if worker.name == owner and self._lots.random() < 0.9]
        for worker in taken_for_it or self._workers[:1]:
            self._later(lambda bus=worker.bus: bus.receive_ahead(place, message))
        # Or the broker did not take it, and the client repeats the same, which is another message.
        published = replace(message, message_id=next(self._ids)) if self._lots.random() < 0.1 else message
        self._later(lambda: self._broker.publish(place, published))

    def _later(self, act: Callable[[], None]) -> None:
        def acts() -> None:
            self.on_their_way -= 1
            act()

        self.on_their_way += 1
        delay_s = self._lots.choice((0.0, self._delay(), self._lots.choice((0.1, 2.0))))
        asyncio.get_running_loop().call_later(delay_s, acts)
