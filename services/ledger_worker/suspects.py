"""Finds the one command that breaks the core or that the database refuses.

So that its neighbours go on (DESIGN §4.2).
"""

from collections.abc import Iterable, Sequence
from typing import Final

from services.ledger_worker.core.decide import Decision, poisoned
from services.ledger_worker.core.line import Line
from services.ledger_worker.ports import PictureStale, RowRefused
from shared.messages import Command
from shared.rejections import Rejection

# A picture that is as stale after so many readings of the truth is not stale: a command asks for a key that is taken.
STALE_PICTURES_MAX: Final = 3


class Suspects:
    """`limit` is how many commands the next group may hold: it shrinks around a fault and grows back with each commit.

    `is_searching`: envelopes, which may be larger than any limit, are taken in parts, since one command is at fault.
    """

    def __init__(self, commands_max: int) -> None:
        self.limit = commands_max
        self.is_searching = False
        self._commands_max = commands_max
        self._reasons: dict[str, str] = {}
        self._unwritable: set[str] = set()
        self._stale_pictures = 0

    def reason(self, command: Command) -> str | None:
        """Why the command is set aside; None for all but a few."""
        return self._reasons.get(command.id)

    def accuse(self, command: Command, reason: str) -> None:
        """Sets the command aside. Twice accused, not even its refusal can be written."""
        if command.id in self._reasons:
            self._unwritable.add(command.id)
        self._reasons[command.id] = reason

    def set_aside(self, line: Line, command: Command) -> Decision:
        """The outcome of an accused command: rejected `internal_error`, in the journal if the journal can hold it."""
        if command.id in self._unwritable:
            return Decision(command.id, command.fingerprint, Rejection.INTERNAL_ERROR)
        return poisoned(line, command)

    def is_commands_fault(self, fault: Exception) -> bool:
        """Whether a commit failed because of what one of its commands says."""
        if isinstance(fault, PictureStale):
            self._stale_pictures += 1
            return self._stale_pictures > STALE_PICTURES_MAX
        return isinstance(fault, RowRefused)

    def narrow(self, fault: Exception, commands: Sequence[Command]) -> None:
        """Shrinks the next group until the command at fault is alone in it."""
        # A picture may be stale for good reason at any size: of a smaller group, too, it takes several to accuse.
        self._stale_pictures = 0
        if len(commands) == 1:
            self.accuse(commands[0], f"the database refused it: {fault}")
            self.limit = self._commands_max
            self.is_searching = False
        else:
            self.limit = max(1, min(len(commands) // 4, self._commands_max))
            self.is_searching = True

    def ease(self, decided: Iterable[str]) -> None:
        """A group was committed."""
        self.limit = min(self._commands_max, self.limit * 2)
        self.is_searching = self.limit < self._commands_max
        self._stale_pictures = 0
        if self._reasons:
            for command in decided:
                self._reasons.pop(command, None)
                self._unwritable.discard(command)
