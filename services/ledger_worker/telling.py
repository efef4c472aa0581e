"""What leaves once a group is in the journal: answers, copies for the operator, acknowledgements, nudges and events."""

from collections import Counter
from collections.abc import Mapping, Sequence

import structlog

from services.ledger_worker import metrics
from services.ledger_worker.folding import Folding
from services.ledger_worker.group import Group
from services.ledger_worker.intake import Opened
from services.ledger_worker.owned import Owned
from services.ledger_worker.ports import Bus, Clock, Inbound
from shared.amqp import BusError, backoff_s
from shared.faults import FaultPoint, fault_point
from shared.ids import Partition

log = structlog.get_logger()


class Telling:
    """Nothing here may be called before the commit of everything that the group was decided on."""

    def __init__(self, *, worker: str, owned: Owned, bus: Bus, clock: Clock, folding: Folding) -> None:
        self._worker = worker
        self._owned = owned
        self._bus = bus
        self._clock = clock
        self._folding = folding

    async def tell(self, group: Group, recorded_at_us: Mapping[Partition, int]) -> None:
        """Answers first, since clients wait; acknowledges only what is answered and, where that is called for.

        Parked.
        """
        for reply_to, reply in group.replies(recorded_at_us, self._worker).items():
            await self._bus.reply(reply_to, reply)
        fault_point(FaultPoint.WORKER_AFTER_ANSWER)
        await self._park(group)
        for last in last_of_each_channel(group.deliveries):
            await self._bus.acknowledge(last)
        for source, destination in group.onward:
            if destination in self._owned.lines:
                self._folding.due = True
            else:
                await self._bus.nudge(source, destination)
        for partition, event in group.events(recorded_at_us):
            self._bus.announce(partition, event)
        _count(group)

    async def _park(self, group: Group) -> None:
        """Sets aside what could not be read or broke something. Tries until it is confirmed."""
        refused = [(opened, opened.parked) for opened in group.deliveries if opened.parked is not None]
        for opened, reason in [*refused, *group.poisoned]:
            attempt = 0
            # Of another owner by now: its delivery, and its copy to park.
            while opened.inbound.partition in self._owned.lines:
                try:
                    await self._bus.park(opened.inbound, reason)
                except BusError as fault:
                    log.warning("parking.failed", fault=repr(fault), attempt=attempt)
                    await self._clock.sleep(backoff_s(attempt))
                    attempt += 1
                    continue
                log.error("message.parked", partition=opened.inbound.partition, reason=reason)
                metrics.PARKED.labels("unreadable" if opened.parked else "poison").inc()
                break


def last_of_each_channel(deliveries: Sequence[Opened]) -> list[Inbound]:
    """What to acknowledge: everything before it on its channel was taken before it, and is committed too."""
    last: dict[tuple[Partition, int], Inbound] = {}
    for opened in deliveries:
        if opened.is_last_part:
            last[opened.inbound.partition, id(opened.inbound.channel)] = opened.inbound
    return list(last.values())


def _count(group: Group) -> None:
    codes: Counter[str] = Counter()
    for _, _, decision in group.decisions:
        if decision.replayed:
            metrics.DUPLICATES.labels("repeat").inc()
            continue
        codes[decision.code or "posted"] += 1
        if decision.code is not None:
            log.info("command.rejected", operation_id=decision.id, code=decision.code)
    for code, count in codes.items():
        metrics.COMMANDS.labels(code).inc(count)
    log.debug("batch.committed", commands=group.commands, batches=len(group.sealed))
