"""A send queue: the commands that wait for one partition, the envelopes in flight, and when the next one may leave."""

import asyncio
from collections import deque
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from shared.domain.ids import Partition
from shared.ledger_client.pending import PendingCommand
from shared.messages.base import COMMANDS_PER_ENVELOPE_MAX

# The worker decides one envelope while it commits another. A third in flight would only make envelopes smaller.
ENVELOPES_IN_FLIGHT_MAX: Final = 2
# After this time without an answer an envelope no longer delays the next one: its worker may be slow or gone.
ANSWER_TIMEOUT_S: Final = 0.1

# Id and fingerprint of a command: what a reply repeats.
CommandKey: TypeAlias = tuple[str, str]


@dataclass(slots=True, eq=False)
class InFlightEnvelope:
    """Commands in one message. They are decided in order, so the outcome of the last one answers the envelope."""

    commands: Sequence[PendingCommand]
    timer: asyncio.TimerHandle | None = None  # runs from the broker's confirm on

    @property
    def last(self) -> CommandKey:
        """Id and fingerprint of the last command."""
        command = self.commands[-1].command
        return command.id, command.fingerprint


class SendQueue:
    """The queue of one partition. `ready` is set while an envelope may leave."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.ready = asyncio.Event()
        self._waiting: deque[PendingCommand] = deque()
        self._in_flight: list[InFlightEnvelope] = []

    def add(self, pending: PendingCommand) -> None:
        """Appends a command."""
        self._waiting.append(pending)
        self._update_ready()

    def take(self) -> InFlightEnvelope:
        """The next envelope, which is in flight from now on."""
        size = min(len(self._waiting), COMMANDS_PER_ENVELOPE_MAX)
        envelope = InFlightEnvelope([self._waiting.popleft() for _ in range(size)])
        self._in_flight.append(envelope)
        self._update_ready()
        return envelope

    def confirmed(self, envelope: InFlightEnvelope) -> None:
        """The broker has it: from now on it has ANSWER_TIMEOUT_S to be answered."""
        if envelope in self._in_flight:
            self._restart_timer(envelope)

    def answered(self, outcomes: Container[CommandKey]) -> None:
        """Ends the envelopes whose last command is among the outcomes."""
        ended = [envelope for envelope in self._in_flight if envelope.last in outcomes]
        for envelope in ended:
            self.end(envelope)
        if ended:
            # The worker only now starts with the next envelope in flight, so restart its time-out.
            for envelope in self._in_flight:
                if envelope.timer is not None:
                    self._restart_timer(envelope)

    def end(self, envelope: InFlightEnvelope) -> None:
        """It was answered, was not published, or is late: it is no longer in flight. Harmless when repeated."""
        self._stop_timer(envelope)
        if envelope in self._in_flight:
            self._in_flight.remove(envelope)
            self._update_ready()

    def _restart_timer(self, envelope: InFlightEnvelope) -> None:
        self._stop_timer(envelope)
        envelope.timer = asyncio.get_running_loop().call_later(ANSWER_TIMEOUT_S, self.end, envelope)

    def _stop_timer(self, envelope: InFlightEnvelope) -> None:
        # Timer and envelope refer to each other. Unless cleared, the cycle would keep the commands in memory.
        if envelope.timer is not None:
            envelope.timer.cancel()
            envelope.timer = None

    def _update_ready(self) -> None:
        """The first envelope leaves at once, a second one when as many commands wait as the first carries."""
        carried = [len(envelope.commands) for envelope in self._in_flight]
        if self._waiting and (
            not carried or (len(carried) < ENVELOPES_IN_FLIGHT_MAX and len(self._waiting) >= max(carried))
        ):
            self.ready.set()
        else:
            self.ready.clear()
