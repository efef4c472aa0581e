"""Runs the core over deliveries, and keeps a command that breaks it from taking its neighbours along."""

import structlog

from services.ledger_worker.core.decide import Asking, Decision, decide
from services.ledger_worker.core.line import InvariantBroken, Line
from services.ledger_worker.group import Group
from services.ledger_worker.intake import Opened
from services.ledger_worker.owned import Owned
from services.ledger_worker.ports import Clock, Redo
from services.ledger_worker.suspects import Suspects
from shared.faults import FaultPoint, fault_point
from shared.messages import Command

log = structlog.get_logger()


class Deciding:
    """Between the intake and the core."""

    def __init__(self, owned: Owned, suspects: Suspects, clock: Clock) -> None:
        self._owned = owned
        self._suspects = suspects
        self._clock = clock

    def decide(self, opened: Opened, group: Group) -> None:
        """Adds a decision for each command of a delivery to the group. Raises Redo when one makes the core raise."""
        line = self._owned.lines[opened.inbound.partition]
        asking = Asking(opened.inbound.reply_to, self._clock.now_us())
        for command in opened.commands:
            decision = self._decision(line, command, asking, group, opened)
            group.decisions.append((opened.inbound.reply_to, line.partition, decision))

    def _decision(self, line: Line, command: Command, asking: Asking, group: Group, opened: Opened) -> Decision:
        reason = self._suspects.reason(command)
        if reason is not None and command.id not in line.world.recent:
            group.poisoned.append((opened, reason))
            return self._suspects.set_aside(line, command)
        try:
            if command.id not in line.world.recent:  # a repeat has its outcome, and would not be set aside
                fault_point(FaultPoint.WORKER_IN_CORE)
            return decide(line, command, asking)
        except InvariantBroken:
            raise
        except Exception as error:
            # The accounts may be half changed: forget them all, and decide again with this command set aside.
            self._suspects.accuse(command, f"the core raised {error!r}")
            log.exception("command.poisoned", operation_id=command.id)
            raise Redo("the core raised") from error
