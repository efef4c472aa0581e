"""A line: what waits for one queue, what of it is under way, and when the next envelope may leave.

See ADR 10, ADR 12 and, for envelopes that go ahead of the broker, ADR 15.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from shared.ids import Partition
from shared.messages.base import COMMANDS_PER_ENVELOPE_MAX
from shared.sending import Sent

# One is decided while the one before it is being committed; a third would only make all of them smaller.
ENVELOPES_UNDER_WAY_MAX: Final = 2
# The broker may be so many envelopes behind those that went ahead of it; then it is waited for.
UNCONFIRMED_MAX: Final = 4
# What was confirmed and is not answered so long after that, or after the answer to the one before it, counts no longer:
# a worker may be slow, or gone.
ANSWER_S_MAX: Final = 0.1

# Id and fingerprint of a command.
Question: TypeAlias = tuple[str, str]


@dataclass(slots=True, eq=False)
class Envelope:
    """Commands under way together. Who has heard of the last has heard of all."""

    sent: Sequence[Sent]
    went_ahead: bool = False
    is_doubted: bool = False  # one that left beside it was lost
    _late: Callable[[], None] | None = None
    _timer: asyncio.TimerHandle | None = None

    @property
    def last(self) -> Question:
        """The last command, which stands for the envelope."""
        command = self.sent[-1].command
        return command.id, command.fingerprint

    def expect(self, late: Callable[[], None] | None = None) -> None:
        """From now on it has its time to be answered, before `late` is called; anew, if it was expected before."""
        late = late or self._late
        self.expect_no_more()
        if late is not None:
            self._late = late
            self._timer = asyncio.get_running_loop().call_later(ANSWER_S_MAX, late)

    def expect_no_more(self) -> None:
        """Nothing is called. `late` knows the envelope: were it kept, all it carried would wait for the collector."""
        if self._timer is not None:
            self._timer.cancel()
        self._late = self._timer = None


class Line:
    """`turn` is set while an envelope may leave, for the task that sends."""

    def __init__(self, queue: Partition) -> None:
        self.queue = queue
        self.turn = asyncio.Event()
        self._waiting: deque[Sent] = deque()
        self._under_way: list[Envelope] = []
        self._unconfirmed: set[Envelope] = set()
        # Of what left after the last that was lost, and so by the broker alone, something was answered.
        self._is_heard = False

    def add(self, sent: Sent) -> None:
        """At the end of the line."""
        self._waiting.append(sent)
        self._look()

    def take(self) -> Envelope:
        """The next envelope, under way from here on."""
        taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), COMMANDS_PER_ENVELOPE_MAX))]
        envelope = Envelope(taken)
        self._under_way.append(envelope)
        self._look()
        return envelope

    def may_go_ahead(self, envelope: Envelope) -> bool:
        """Only if the line is heard, the broker not far behind, and nothing is under way by the broker alone."""
        return (
            self._is_heard
            and len(self._unconfirmed) < UNCONFIRMED_MAX
            and all(other.went_ahead or other is envelope for other in self._under_way)
        )

    def went_ahead(self, envelope: Envelope) -> None:
        """The next may leave before the broker has confirmed this one."""
        envelope.went_ahead = True
        self._unconfirmed.add(envelope)
        for sent in envelope.sent:
            sent.went_ahead = True

    def take_all(self) -> Sequence[Sent]:
        """What waits, for other lines."""
        waiting, self._waiting = self._waiting, deque()
        self._look()
        return waiting

    def confirmed(self, envelope: Envelope, late: Callable[[], None]) -> None:
        """The broker has it; `late` is called unless it is answered in time."""
        self._unconfirmed.discard(envelope)
        if envelope in self._under_way:
            envelope.expect(late)

    def hear(self, answered: Container[Question]) -> None:
        """Ends what was answered. What is still under way was not served before, and has its time from now on."""
        ended = [envelope for envelope in self._under_way if envelope.last in answered]
        for envelope in ended:
            self._is_heard = self._is_heard or not envelope.is_doubted
            self.end(envelope)
        if ended:
            for envelope in self._under_way:
                envelope.expect()

    def lost(self, envelope: Envelope) -> None:
        """The broker did not confirm it, or nobody answers it: until one fares better, none goes ahead."""
        self._is_heard = False
        for other in (*self._under_way, *self._unconfirmed):
            other.is_doubted = True
        self._unconfirmed.discard(envelope)
        self.end(envelope)

    def end(self, envelope: Envelope) -> None:
        """Nothing is expected of it any more. Harmless when repeated."""
        envelope.expect_no_more()
        if envelope in self._under_way:
            self._under_way.remove(envelope)
            self._look()

    def _look(self) -> None:
        """The first envelope leaves at once, a second once as much waits as the first carries."""
        carried = [len(envelope.sent) for envelope in self._under_way]
        if self._waiting and (
            not carried or (len(carried) < ENVELOPES_UNDER_WAY_MAX and len(self._waiting) >= max(carried))
        ):
            self.turn.set()
        else:
            self.turn.clear()
