"""A line: what waits for one queue, what of it is under way, and when the next envelope may leave (ADR 10, ADR 12)."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from shared.ids import Partition
from shared.messages.base import COMMANDS_PER_ENVELOPE_MAX
from shared.sending import Sent

# One is decided while the one before it is being committed; a third would only make all of them smaller.
ENVELOPES_UNDER_WAY_MAX: Final = 2
# An envelope that was confirmed but not answered within this time counts no longer: a worker may be slow, or gone.
ANSWER_S_MAX: Final = 0.1

# Id and fingerprint of the last command of an envelope: who hears of it has heard of all.
Last: TypeAlias = tuple[str, str]


@dataclass(slots=True, eq=False)
class _UnderWay:
    commands: int
    timer: asyncio.TimerHandle | None = None


class Line:
    """`turn` is set while an envelope may leave, for the task that sends."""

    def __init__(self, queue: Partition) -> None:
        self.queue = queue
        self.turn = asyncio.Event()
        self._waiting: deque[Sent] = deque()
        self._under_way: dict[Last, _UnderWay] = {}

    def add(self, sent: Sent) -> None:
        """At the end of the line."""
        self._waiting.append(sent)
        self._look()

    def take(self) -> Sequence[Sent]:
        """What goes into an envelope that is under way from here on."""
        taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), COMMANDS_PER_ENVELOPE_MAX))]
        self._under_way[last_of(taken)] = _UnderWay(len(taken))
        self._look()
        return taken

    def take_all(self) -> Sequence[Sent]:
        """What waits, for other lines."""
        waiting, self._waiting = self._waiting, deque()
        self._look()
        return waiting

    def confirmed(self, last: Last, late: Callable[[], None]) -> None:
        """The broker has the envelope; `late` is called unless it is answered in time."""
        envelope = self._under_way.get(last)
        if envelope is not None:
            envelope.timer = asyncio.get_running_loop().call_later(ANSWER_S_MAX, late)

    def ended(self, last: Last) -> None:
        """The envelope was answered, or nothing is to be expected of it any more."""
        envelope = self._under_way.pop(last, None)
        if envelope is not None and envelope.timer is not None:
            envelope.timer.cancel()
        self._look()

    def _look(self) -> None:
        """The first envelope leaves at once, a second once as much waits as the first carries."""
        carried = [envelope.commands for envelope in self._under_way.values()]
        if self._waiting and (
            not carried or (len(carried) < ENVELOPES_UNDER_WAY_MAX and len(self._waiting) >= max(carried))
        ):
            self.turn.set()
        else:
            self.turn.clear()


def last_of(envelope: Sequence[Sent]) -> Last:
    """What stands for the whole envelope."""
    command = envelope[-1].command
    return command.id, command.fingerprint
