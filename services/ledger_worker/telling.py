"""What leaves once a group is in the journal: answers, copies for the operator, acknowledgements, nudges and events."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from services.ledger_worker import metrics
from services.ledger_worker.folding import Folding
from services.ledger_worker.group import Group, Stray
from services.ledger_worker.intake import Opened
from services.ledger_worker.owned import Owned
from services.ledger_worker.ports import Bus, Clock
from shared.amqp import BusError, NotSent, backoff_s
from shared.faults import FaultPoint, fault_point
from shared.ids import Partition

log = structlog.get_logger()

# What another partition's queue does not take within this time is parked; while the queue counts as closed, it is tried
# once.
SENDING_ON_S_MAX: Final = 1.0
CLOSED_S: Final = 10.0


class Telling:
    """Nothing here may be called before the commit of everything that the group was decided on."""

    def __init__(self, *, worker: str, owned: Owned, bus: Bus, clock: Clock, folding: Folding) -> None:
        self._worker = worker
        self._owned = owned
        self._bus = bus
        self._clock = clock
        self._folding = folding
        self._closed_until_s: dict[Partition, float] = {}

    async def answer(self, group: Group, recorded_at_us: Mapping[Partition, int]) -> None:
        """First of all, since clients wait. An answer that is lost stands in the journal."""
        owned = sorted(self._owned.takeable())
        for reply_to, reply in group.replies(recorded_at_us, self._worker, owned).items():
            await self._bus.reply(reply_to, reply)
        fault_point(FaultPoint.WORKER_AFTER_ANSWER)

    async def tell(self, group: Group, recorded_at_us: Mapping[Partition, int]) -> None:
        """The rest. Acknowledges only what is answered, sent on or parked as it must be."""
        unsent = await self._send_on(group.strays) if group.strays else {}
        for opened in group.deliveries:
            if opened.parked is not None:
                await self._park(opened, opened.parked, "unreadable")
            elif opened in unsent:
                await self._park(opened, unsent[opened], "stray")
        for opened, reason in group.poisoned:
            await self._park(opened, reason, "poison", is_only_copy=True)
        for opened in group.deliveries:
            finished = opened.finish()
            # Of another owner by now: its delivery, and what of it was not sent on or parked here.
            if finished is not None and finished.partition in self._owned.lines:
                self._bus.acknowledge(finished)
        for source, destination in group.onward:
            if destination in self._owned.lines:
                self._folding.due = True
            else:
                await self._bus.nudge(source, destination)
        for partition, event in group.events(recorded_at_us):
            self._bus.announce(partition, event)
        _count(group)

    async def _send_on(self, strays: Sequence[Stray]) -> dict[Opened, str]:
        """To the queues of their partitions, all at once; returns what some of it did not reach, with the reason."""
        unsent: dict[Opened, str] = {}
        async with asyncio.TaskGroup() as group:
            for stray in strays:
                group.create_task(self._send_stray(stray, unsent), name=f"stray of {stray.partition}")
        return unsent

    async def _send_stray(self, stray: Stray, unsent: dict[Opened, str]) -> None:
        """Within SENDING_ON_S_MAX, or once if that queue took nothing a moment ago: no line waits long for others."""
        is_closed = self._clock.monotonic_s() < self._closed_until_s.get(stray.partition, 0)
        tries_until_s: float | None = None
        attempt = 0
        while stray.opened.inbound.partition in self._owned.lines:
            try:
                await self._bus.send_on(stray.partition, stray.opened.inbound.reply_to, stray.commands)
            except BusError as fault:
                # Without a broker nothing can be parked either: that time does not count.
                if not isinstance(fault, NotSent):
                    now_s = self._clock.monotonic_s()
                    if tries_until_s is None:
                        tries_until_s = now_s if is_closed else now_s + SENDING_ON_S_MAX
                    if now_s >= tries_until_s:
                        self._closed_until_s[stray.partition] = now_s + CLOSED_S
                        unsent[stray.opened] = f"the queue of partition {stray.partition} takes nothing: {fault!r}"
                        return
                log.warning("sending_on.failed", partition=stray.partition, fault=repr(fault), attempt=attempt)
                await self._clock.sleep(backoff_s(attempt))
                attempt += 1
            else:
                metrics.STRAYS.inc(len(stray.commands))
                self._closed_until_s.pop(stray.partition, None)
                return

    async def _park(self, opened: Opened, reason: str, label: str, *, is_only_copy: bool = False) -> None:
        """Sets aside what could not be read, broke something, or could not be sent on. Tries until it is confirmed.

        Of another owner by now: its delivery, and its copy to park, unless it finds an outcome there. So an only copy
        is tried once all the same.
        """
        attempt = 0
        while (is_only_copy and attempt == 0) or opened.inbound.partition in self._owned.lines:
            try:
                await self._bus.park(opened.inbound, reason)
            except BusError as fault:
                log.warning("parking.failed", fault=repr(fault), attempt=attempt)
                await self._clock.sleep(backoff_s(attempt))
                attempt += 1
            else:
                log.error("message.parked", partition=opened.inbound.partition, reason=reason)
                metrics.PARKED.labels(label).inc()
                return


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
    metrics.TRANSIT_LEGS.labels("same commit").inc(group.cleared_credits)
    log.debug("batch.committed", commands=group.commands, batches=len(group.sealed))
