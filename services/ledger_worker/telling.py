"""What leaves once a group is in the journal: answers, copies for the operator, acknowledgements, nudges and events."""

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import structlog

from services.ledger_worker import metrics
from services.ledger_worker.folding import Folding
from services.ledger_worker.group import Group, Stray
from services.ledger_worker.intake import Opened
from services.ledger_worker.owned import Owned
from services.ledger_worker.ports import Bus, Clock, Inbound
from shared.amqp import BusError, Refused, Unroutable, backoff_s
from shared.faults import FaultPoint, fault_point
from shared.ids import Partition

log = structlog.get_logger()

# A full queue is asked so often, within a second or two, before what it does not take is parked.
REFUSALS_MAX: Final = 5


class Telling:
    """Nothing here may be called before the commit of everything that the group was decided on."""

    def __init__(self, *, worker: str, owned: Owned, bus: Bus, clock: Clock, folding: Folding) -> None:
        self._worker = worker
        self._owned = owned
        self._bus = bus
        self._clock = clock
        self._folding = folding

    async def tell(self, group: Group, recorded_at_us: Mapping[Partition, int]) -> None:
        """Answers first, since clients wait; acknowledges only what is answered, sent on or parked as it must be."""
        owned = sorted(self._owned.takeable())
        for reply_to, reply in group.replies(recorded_at_us, self._worker, owned).items():
            await self._bus.reply(reply_to, reply)
        fault_point(FaultPoint.WORKER_AFTER_ANSWER)
        for stray in group.strays:
            await self._send_on(stray)
        for opened in group.deliveries:
            if opened.parked is not None:
                await self._park(opened, opened.parked, "unreadable")
        for opened, reason in group.poisoned:
            await self._park(opened, reason, "poison")
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

    async def _send_on(self, stray: Stray) -> None:
        """To the queue of its partition, or to the operator if that queue takes nothing: no line waits for another."""

        async def send() -> None:
            await self._bus.send_on(stray.partition, stray.opened.inbound.reply_to, stray.commands)

        try:
            if await self._confirmed(stray.opened, send, "sending_on.failed", refusals_max=REFUSALS_MAX):
                metrics.STRAYS.inc(len(stray.commands))
        except (Refused, Unroutable) as fault:
            await self._park(
                stray.opened, f"the queue of partition {stray.partition} takes nothing: {fault!r}", "stray"
            )

    async def _park(self, opened: Opened, reason: str, label: str) -> None:
        """Sets aside what could not be read, broke something, or could not be sent on."""

        async def park() -> None:
            await self._bus.park(opened.inbound, reason)

        if await self._confirmed(opened, park, "parking.failed"):
            log.error("message.parked", partition=opened.inbound.partition, reason=reason)
            metrics.PARKED.labels(label).inc()

    async def _confirmed(
        self, opened: Opened, publish: Callable[[], Awaitable[None]], failed: str, *, refusals_max: float = math.inf
    ) -> bool:
        """Tries until it is confirmed. False: the delivery is another owner's by now, and so is this.

        Raises Refused or Unroutable when the broker has said so more than `refusals_max` times.
        """
        attempt = refusals = 0
        while opened.inbound.partition in self._owned.lines:
            try:
                await publish()
            except BusError as fault:
                refusals += isinstance(fault, Refused | Unroutable)
                if refusals > refusals_max:
                    raise
                log.warning(failed, fault=repr(fault), attempt=attempt)
                await self._clock.sleep(backoff_s(attempt))
                attempt += 1
            else:
                return True
        return False


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
