"""Isolates the one command that makes the core raise or that the database refuses, so that the others proceed."""

from collections.abc import Iterable, Sequence
from typing import Final

from services.ledger_worker.core.decide import reject_poison
from services.ledger_worker.core.outcomes import Decision
from services.ledger_worker.core.state import PartitionState
from services.ledger_worker.ports import RowRefused, StaleRead
from shared.domain.rejections import Rejection
from shared.messages import Command

# If StaleRead persists after this many fresh reads of the journal, a command asks for a key that is taken.
STALE_READS_MAX: Final = 3


class PoisonIsolation:
    """`limit`: how many commands the next group may hold. It shrinks after a fault and doubles with each commit.

    `is_searching`: one command is at fault but not known yet, so envelopes larger than `limit` are taken in parts.
    `is_active`: a command is being searched for, or was found and its rejection is not committed yet.
    """

    def __init__(self, commands_max: int) -> None:
        self.limit = commands_max
        self.is_searching = False
        self.is_active = False
        self._commands_max = commands_max
        self._reasons: dict[str, str] = {}
        self._unwritable: set[str] = set()
        self._stale_reads = 0

    def reason(self, command: Command) -> str | None:
        """Why the command must be rejected without being decided; None if it was not accused."""
        return self._reasons.get(command.id)

    def accuse(self, command: Command, reason: str) -> None:
        """Marks the command to be rejected. A second accusation means that not even its rejection can be written."""
        if command.id in self._reasons:
            self._unwritable.add(command.id)
        self._reasons[command.id] = reason
        self.is_active = True

    def reject(self, partition: PartitionState, command: Command) -> Decision:
        """Rejects an accused command with `internal_error`, and writes that to the journal if it can be written."""
        if command.id in self._unwritable:
            return Decision(command.id, command.fingerprint, Rejection.INTERNAL_ERROR)
        return reject_poison(partition, command)

    def is_commands_fault(self, fault: Exception) -> bool:
        """Whether the content of one command made the commit fail. Counts stale reads, so ask once per fault."""
        if isinstance(fault, StaleRead):
            self._stale_reads += 1
            return self._stale_reads > STALE_READS_MAX
        return isinstance(fault, RowRefused)

    def narrow(self, fault: Exception, commands: Sequence[Command]) -> None:
        """Shrinks the next group until the command at fault is alone in it."""
        # Start counting again: for the smaller group, too, it takes several stale reads to blame a command.
        self._stale_reads = 0
        if len(commands) == 1:
            self.accuse(commands[0], f"the database refused it: {fault}")
            self.limit = self._commands_max
            self.is_searching = False
        else:
            self.limit = max(1, min(len(commands) // 4, self._commands_max))
            self.is_searching = self.is_active = True

    def ease(self, decided: Iterable[str]) -> None:
        """A group with these command ids was committed: grows the limit and clears what they were accused of."""
        self.limit = min(self._commands_max, self.limit * 2)
        self.is_searching = self.limit < self._commands_max
        self._stale_reads = 0
        for command in decided:
            self._reasons.pop(command, None)
            self._unwritable.discard(command)
        self.is_active = self.is_searching or bool(self._reasons)
