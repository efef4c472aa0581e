"""Runs the core over deliveries, and keeps a command that breaks it from taking its neighbours along."""

import structlog

from services.ledger_worker.core.decide import Asking, Decision, decide
from services.ledger_worker.core.line import InvariantBroken, Line
from services.ledger_worker.group import Group, Stray
from services.ledger_worker.intake import Opened
from services.ledger_worker.owned import Owned
from services.ledger_worker.ports import Clock, Redo
from services.ledger_worker.suspects import Suspects
from shared.faults import FaultPoint, fault_point
from shared.ids import Partition
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
        inbound = opened.inbound
        asking = Asking(inbound.reply_to, self._clock.now_us())
        strays: dict[Partition, list[Command]] = {}
        for partition, command in opened.commands:
            line = self._owned.line_of(partition, inbound.partition)
            if line is None:
                marked = command.model_copy(update={"repeat": True}) if inbound.redelivered else command
                strays.setdefault(partition, []).append(marked)
            else:
                decision = self._decision(line, command, asking, group, opened)
                group.decisions.append((inbound.reply_to, partition, decision))
        group.strays += [Stray(opened, partition, commands) for partition, commands in strays.items()]

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
