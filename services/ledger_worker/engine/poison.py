"""Isolates the one command that makes the core raise or that the database refuses, so that the others proceed."""

from collections.abc import Iterable

from services.ledger_worker.core.decide import reject_poison
from services.ledger_worker.core.outcomes import Decision
from services.ledger_worker.core.state import PartitionState
from shared.messages import Command


class PoisonIsolation:
    """The commands that are accused, until what became of them is committed. `is_active`: there is one."""

    def __init__(self) -> None:
        self.is_active = False
        self._reasons: dict[str, str] = {}
        self._unwritable: set[str] = set()

    def reason(self, command: Command) -> str | None:
        """Why the command must be rejected without being decided; None if it was not accused."""
        return self._reasons.get(command.id)

    def accuse(self, command: Command, reason: str) -> None:
        """Marks the command to be rejected. A second accusation means that not even its rejection can be written."""
        is_unwritable = command.id in self._reasons
        if is_unwritable:
            self._unwritable.add(command.id)
        outcome = "has no outcome, since not even its rejection can be written" if is_unwritable else "is rejected"
        self._reasons[command.id] = f"command {command.id} {outcome}: {reason}"
        self.is_active = True

    def reject(self, partition: PartitionState, command: Command) -> Decision | None:
        """Rejects an accused command with `internal_error` in the journal.

        None if the journal does not take even that. Then nobody may be told of an outcome: it stays unknown, and the
        dead letter is all that is left of the command.
        """
        return None if command.id in self._unwritable else reject_poison(partition, command)

    def clear(self, decided: Iterable[str]) -> None:
        """Clears what these commands were accused of, since a group that decides them was committed."""
        for command in decided:
            self._reasons.pop(command, None)
            self._unwritable.discard(command)
        self.is_active = bool(self._reasons)
