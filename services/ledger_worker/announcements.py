"""Events on their way out: gathered, published one message of a partition at a time, dropped rather than waited for."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from services.ledger_worker import metrics
from shared import amqp, topology
from shared.amqp import Outgoing
from shared.ids import Partition
from shared.messages import BatchEvent, EventMessage

log = structlog.get_logger()

EVENT_KIND: Final = "event.v1"
# Events are nudges: one message of a partition at a time, and not more often than this (each costs 0.3 ms of CPU).
INTERVAL_S: Final = 0.2
WAITING_MAX: Final = 10_000
PER_MESSAGE_MAX: Final = 200


class Announcements:
    """`channel` is the one to publish on, confirmed; None while there is none."""

    def __init__(self, channel: Callable[[], amqp.Channel | None]) -> None:
        self._channel = channel
        self._waiting: dict[Partition, deque[BatchEvent]] = {}
        self._added = asyncio.Event()

    def add(self, partition: Partition, event: BatchEvent) -> None:
        """Never waits. Beyond the bound the oldest is dropped: readers find it in the journal."""
        self._waiting.setdefault(partition, deque(maxlen=WAITING_MAX)).append(event)
        self._added.set()

    async def run(self) -> None:
        """Publishes until cancelled."""
        while True:
            await self._added.wait()
            self._added.clear()
            for partition, waiting in list(self._waiting.items()):
                batches = [waiting.popleft() for _ in range(min(len(waiting), PER_MESSAGE_MAX))]
                if batches:
                    await self._publish(
                        EventMessage.model_construct(v=1, partition=int(partition), batches=tuple(batches))
                    )
                if waiting:
                    self._added.set()
            await asyncio.sleep(INTERVAL_S)

    async def _publish(self, message: EventMessage) -> None:
        try:
            await amqp.publish(
                self._channel(),
                Outgoing(
                    topology.EVENTS,
                    topology.partition_key(Partition(message.partition)),
                    message.model_dump_json(exclude_defaults=True).encode(),
                    EVENT_KIND,
                    mandatory=False,
                ),
            )
        except amqp.BusError as fault:
            metrics.EVENTS_LOST.inc()
            log.info("event.lost", partition=message.partition, fault=repr(fault))
