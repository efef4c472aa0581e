"""ports.Publisher on RabbitMQ: replies and nudges without confirms, dead letters and events with them."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

import structlog

from services.ledger_worker import metrics
from services.ledger_worker.ports import Delivery
from shared.broker.channels import (
    Channel,
    Connection,
    OutgoingMessage,
    PublishFailed,
    open_channel,
    publish,
    publish_unconfirmed,
    temporary_channel,
)
from shared.broker.connection import ManagedConnection
from shared.broker.dead_letters import dead_letter
from shared.broker.declare import DEAD_LETTER_QUEUE, declare_exchange, declare_queue, publish_to
from shared.domain.ids import Partition
from shared.messages import BatchEvent, EventMessage, Nudge, Reply, topology
from shared.messages.events import NUDGE_KIND
from shared.messages.replies import REPLY_KIND

log = structlog.get_logger()

EVENT_KIND: Final = "event.v1"
# Events only tell readers to look into the journal, so they need not be prompt: each partition publishes one message
# at most this often (a message costs 0.3 ms of CPU).
EVENT_INTERVAL_S: Final = 0.2
EVENTS_WAITING_MAX: Final = 10_000
EVENTS_PER_MESSAGE_MAX: Final = 200


class RabbitPublisher:
    """Publishes over its own connection, so that deliveries go on while the broker blocks publishers."""

    def __init__(self, url: str, owner: str) -> None:
        self._unconfirmed: Channel | None = None
        self._confirmed: Channel | None = None
        self._events: dict[Partition, deque[BatchEvent]] = {}
        self._has_events = asyncio.Event()
        self._connection = ManagedConnection(url, name=f"{owner}.publish", opened=self._opened, lost=self._lost)

    async def run(self) -> None:
        """Keeps the connection and publishes events until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._connection.run(), name="publishing connection")
            group.create_task(self._publish_events(), name="events")

    def is_ready(self) -> bool:
        """True while the connection is open."""
        return self._connection.current is not None

    async def wait_ready(self, timeout_s: float) -> bool:
        """Waits until the connection is open; False when the time is up before."""
        return await self._connection.wait_open(timeout_s)

    async def reply(self, reply_to: str, reply: Reply) -> None:
        """See ports.Publisher."""
        body = reply.model_dump_json(exclude_defaults=True).encode()
        await publish_unconfirmed(self._unconfirmed, OutgoingMessage("", reply_to, body, REPLY_KIND, persistent=False))

    async def nudge(self, source: Partition, destination: Partition, batch: int) -> None:
        """See ports.Publisher."""
        body = Nudge(source=source, destination=destination, batch=batch).model_dump_json().encode()
        key = topology.NUDGE_KEYS[destination]
        nudge = OutgoingMessage(topology.EVENTS, key, body, NUDGE_KIND, persistent=False)
        await publish_unconfirmed(self._unconfirmed, nudge)

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """See ports.Publisher."""
        await publish_to(
            self._confirmed,
            DEAD_LETTER_QUEUE,
            dead_letter(
                delivery.body,
                kind=delivery.kind,
                reason=reason,
                exchange=topology.COMMANDS,
                key=topology.PARTITION_KEYS[delivery.partition],
                reply_to=delivery.reply_to,
                mac=delivery.mac,
                retries=delivery.retries,
            ),
        )

    def announce(self, partition: Partition, event: BatchEvent) -> None:
        """See ports.Publisher. Beyond the bound the oldest event is dropped: readers find it in the journal."""
        self._events.setdefault(partition, deque(maxlen=EVENTS_WAITING_MAX)).append(event)
        self._has_events.set()

    async def _publish_events(self) -> None:
        while True:
            await self._has_events.wait()
            self._has_events.clear()
            for partition, waiting in list(self._events.items()):
                batches = [waiting.popleft() for _ in range(min(len(waiting), EVENTS_PER_MESSAGE_MAX))]
                if batches:
                    await self._publish_batches(partition, batches)
                if waiting:
                    self._has_events.set()
            await asyncio.sleep(EVENT_INTERVAL_S)

    async def _publish_batches(self, partition: Partition, batches: Sequence[BatchEvent]) -> None:
        message = EventMessage.model_construct(v=1, partition=int(partition), batches=tuple(batches))
        body = message.model_dump_json(exclude_defaults=True).encode()
        key = topology.PARTITION_KEYS[partition]
        try:
            await publish(self._confirmed, OutgoingMessage(topology.EVENTS, key, body, EVENT_KIND, mandatory=False))
        except PublishFailed as fault:
            metrics.EVENTS_LOST.inc()
            log.info("event.lost", partition=partition, fault=repr(fault))

    async def _opened(self, connection: Connection) -> Sequence[Channel]:
        # A message to a missing exchange closes its channel.
        async with temporary_channel(connection) as channel:
            await declare_exchange(channel, topology.EVENTS)
            await declare_queue(channel, DEAD_LETTER_QUEUE)
        self._unconfirmed = await open_channel(connection, confirmed=False)
        self._confirmed = await open_channel(connection, confirmed=True)
        return [self._unconfirmed, self._confirmed]

    def _lost(self) -> None:
        self._unconfirmed = self._confirmed = None
