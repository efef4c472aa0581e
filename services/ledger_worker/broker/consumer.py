"""ports.Consumer on RabbitMQ: one channel for each owned partition.

It never nacks a message and never cancels a consumer alone: only closing the channel makes the broker requeue its
deliveries in order.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from pydantic import ValidationError

from services.ledger_worker.broker.publisher import RabbitPublisher
from services.ledger_worker.ports import Delivery
from shared.broker.channels import (
    BROKER_FAULTS,
    Channel,
    Connection,
    IncomingMessage,
    cancelled_only_by_us,
    close_when_cancelled,
    consume_exclusive_queue,
    open_channel,
    temporary_channel,
    when_closed,
)
from shared.broker.connection import ManagedConnection
from shared.broker.dead_letters import RETRIES_HEADER
from shared.broker.declare import DEAD_LETTER_QUEUE, commands_of, declare_bound, declare_exchange, declare_queue
from shared.domain.ids import Partition
from shared.messages import Nudge, topology
from shared.messages.envelopes import MAC_HEADER
from shared.runtime.retry import backoff_s

log = structlog.get_logger()

HEARTBEAT_S: Final = 5
CLOSE_TIMEOUT_S: Final = 3.0
PREFETCH_ENVELOPES: Final = 32
# Each acknowledgement costs a quorum queue one write to disk. So they are sent together, after this many seconds or
# deliveries. After a crash that many more deliveries come again; their commands are then found to be repeats.
ACK_DELAY_S_MAX: Final = 0.1
ACK_DELIVERIES_MAX: Final = PREFETCH_ENVELOPES // 2
TOPOLOGY_S: Final = 3.0
CONSUME_TIMEOUT_S: Final = 5.0
PUBLISHER_S_MAX: Final = 5.0
# More at once would take longer, each of them, and none might be in time.
CONSUMED_AT_ONCE_MAX: Final = 16


class DeliverySink(Protocol):
    """Receives deliveries and nudges. Its methods are called from broker callbacks and must not block."""

    def deliver(self, delivery: Delivery) -> None:
        """Takes one delivery of an open partition."""
        ...

    def nudge(self, source: Partition, destination: Partition, batch: int) -> None:
        """Says that the transit row of that batch of the source waits."""
        ...

    def channel_lost(self, partition: Partition) -> None:
        """The partition's channel closed unexpectedly: the broker will deliver again what is not acknowledged."""
        ...


@dataclass(slots=True, eq=False)
class PartitionChannel:
    """A partition's channel. `finished`: the last delivery tag that may be acknowledged; `acknowledged`: that was."""

    channel: Channel
    finished: int = 0
    acknowledged: int = 0


class RabbitConsumer:
    """Consumes the queues of the open partitions. Reopens the connection and channels after a failure."""

    def __init__(self, url: str, owner: str, sink: DeliverySink, publisher: RabbitPublisher) -> None:
        self._sink = sink
        self._publisher = publisher
        self._channels: dict[Partition, PartitionChannel] = {}
        self._wanted: set[Partition] = set()
        self._beginning: set[Partition] = set()
        self._consumed_at_once = asyncio.Semaphore(CONSUMED_AT_ONCE_MAX)
        self._closing: set[asyncio.Future[None]] = set()
        self._is_channel_missing = asyncio.Event()
        self._has_unacknowledged = asyncio.Event()
        self._has_many_unacknowledged = asyncio.Event()
        self._nudges: str | None = None  # the queue to which nudges come
        self._connection = ManagedConnection(
            url, name=f"{owner}.consume", opened=self._opened, lost=self._lost, heartbeat_s=HEARTBEAT_S
        )

    async def run(self) -> None:
        """Keeps the connection and the channels until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._connection.run(), name="consuming connection")
            group.create_task(self._keep_channels(), name="partition channels")
            group.create_task(self._keep_acknowledging(), name="acknowledgements")
            group.create_task(self._keep_topology(), name="topology")

    def is_ready(self) -> bool:
        """See ports.Consumer."""
        return self._connection.current is not None

    def is_consuming(self, partition: Partition) -> bool:
        """True while the partition's channel is open with its consumer."""
        known = self._channels.get(partition)
        return known is not None and not known.channel.is_closed

    async def open(self, partition: Partition) -> None:
        """See ports.Consumer."""
        self._wanted.add(partition)
        self._is_channel_missing.set()

    async def close(self, partition: Partition) -> None:
        """See ports.Consumer."""
        self._wanted.discard(partition)
        known = self._channels.pop(partition, None)
        if known is not None:
            await self._acknowledge(known)
            # Not cut off by the time-out: a channel that stays open would keep the queue from its next owner.
            closing = asyncio.ensure_future(_close(known.channel))  # noqa: TID251 - it raises nothing
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_S)
        await self._bind_nudges([partition], bind=False)

    def acknowledge(self, delivery: Delivery) -> None:
        """See ports.Consumer."""
        known = self._channels.get(delivery.partition)
        # Tags count per channel: on another channel the same tag is a delivery that may not be processed.
        if known is None or known.channel is not delivery.channel:
            return
        known.finished = delivery.tag
        self._has_unacknowledged.set()
        if known.finished - known.acknowledged >= ACK_DELIVERIES_MAX:
            self._has_many_unacknowledged.set()

    async def _keep_acknowledging(self) -> None:
        while True:
            await self._has_unacknowledged.wait()
            self._has_unacknowledged.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ACK_DELAY_S_MAX):
                    await self._has_many_unacknowledged.wait()
            self._has_many_unacknowledged.clear()
            for known in list(self._channels.values()):
                await self._acknowledge(known)

    async def _acknowledge(self, known: PartitionChannel) -> None:
        if known.finished > known.acknowledged and not known.channel.is_closed:
            known.acknowledged = known.finished
            with contextlib.suppress(*BROKER_FAULTS), cancelled_only_by_us():
                await known.channel.basic_ack(known.acknowledged, multiple=True, wait=False)

    async def _keep_channels(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                await self._is_channel_missing.wait()
                self._is_channel_missing.clear()
                # Each in a task of its own: a queue that is gone, or does not answer, must not keep others waiting.
                for partition in sorted(self._wanted - self._channels.keys() - self._beginning):
                    self._beginning.add(partition)
                    group.create_task(self._begin(partition), name=f"begin to consume {partition}")

    async def _begin(self, partition: Partition) -> None:
        """Tries until the partition is consumed, or is no longer to be. `_opened` goes on if the connection is lost."""
        attempt = 0
        while partition in self._wanted - self._channels.keys() and (connection := self._connection.current):
            try:
                with cancelled_only_by_us():
                    async with self._consumed_at_once, asyncio.timeout(CONSUME_TIMEOUT_S):
                        await self._consume(connection, partition)
            except BROKER_FAULTS as fault:
                log.warning("channel.failed", partition=partition, fault=repr(fault), attempt=attempt)
                await asyncio.sleep(backoff_s(attempt))
                attempt += 1
            else:
                await self._bind_nudges([partition])
        self._beginning.discard(partition)

    async def _keep_topology(self) -> None:
        """Declares again what was deleted and would not be missed before it is needed."""
        while True:
            await asyncio.sleep(TOPOLOGY_S)
            await self._bind_nudges(sorted(self._wanted))
            if connection := self._connection.current:
                try:
                    await declare_bound(connection, DEAD_LETTER_QUEUE)
                except BROKER_FAULTS as fault:
                    log.warning("topology.not_declared", fault=repr(fault))

    async def _consume(self, connection: Connection, partition: Partition) -> None:
        channel = await open_channel(connection, confirmed=False)
        await declare_queue(channel, commands_of(partition))
        await channel.basic_qos(prefetch_count=PREFETCH_ENVELOPES)
        if partition not in self._wanted:  # given back meanwhile: nobody would acknowledge its deliveries
            await channel.close()
            return
        sink = self._sink

        async def received(message: IncomingMessage) -> None:
            if partition in self._channels and self._channels[partition].channel is channel:
                sink.deliver(_delivery(partition, channel, message))

        self._channels[partition] = PartitionChannel(channel)
        when_closed(channel).add_done_callback(lambda _: self._channel_closed(partition, channel))
        close_when_cancelled(channel)
        try:
            await channel.basic_consume(topology.partition_queue(partition), received, no_ack=False)
        except BaseException:
            self._forget_channel(partition, channel)
            raise
        log.info("partition.consuming", partition=partition)

    def _forget_channel(self, partition: Partition, channel: Channel) -> None:
        known = self._channels.get(partition)
        if known is not None and known.channel is channel:
            del self._channels[partition]
            self._sink.channel_lost(partition)

    def _channel_closed(self, partition: Partition, channel: Channel) -> None:
        self._forget_channel(partition, channel)
        if partition in self._wanted:
            self._is_channel_missing.set()

    async def _bind_nudges(self, partitions: Sequence[Partition], *, bind: bool = True) -> None:
        """Has the partitions' nudges come here, or no longer. If that fails, the partitions are polled, or nudged."""
        connection, queue = self._connection.current, self._nudges
        if connection is None or queue is None:
            return
        try:
            async with temporary_channel(connection) as channel:
                await declare_exchange(channel, topology.EVENTS)
                change = channel.queue_bind if bind else channel.queue_unbind
                for partition in partitions:
                    if bind == (partition in self._wanted):
                        await change(queue, topology.EVENTS, topology.NUDGE_KEYS[partition])
        except BROKER_FAULTS as fault:
            log.warning("nudges.not_bound", fault=repr(fault))

    async def _opened(self, connection: Connection) -> Sequence[Channel]:
        # After a restart of the broker the other connection may come later. What is decided before that has no reply,
        # and its client would wait for its whole time-out.
        await self._publisher.wait_ready(PUBLISHER_S_MAX)
        channel, self._nudges = await consume_exclusive_queue(connection, self._nudged)
        self._is_channel_missing.set()
        return [channel]

    def _nudged(self, body: bytes) -> None:
        try:
            nudge = Nudge.model_validate_json(body)
        except ValidationError as error:
            log.info("nudge.unreadable", faults=error.errors(include_input=False, include_url=False)[:3])
        else:
            self._sink.nudge(Partition(nudge.source), Partition(nudge.destination), nudge.batch)

    def _lost(self) -> None:
        self._nudges = None
        for partition in list(self._channels):
            del self._channels[partition]
            self._sink.channel_lost(partition)


async def _close(channel: Channel) -> None:
    with contextlib.suppress(*BROKER_FAULTS), cancelled_only_by_us():
        await channel.close()


def _delivery(partition: Partition, channel: Channel, message: IncomingMessage) -> Delivery:
    properties = message.header.properties
    if message.delivery_tag is None:
        raise RuntimeError("a delivery without a tag")
    return Delivery(
        partition,
        message.body,
        (properties.headers or {}).get(MAC_HEADER),
        properties.reply_to,
        bool(message.redelivered),
        channel,
        message.delivery_tag,
        properties.message_type,
        (properties.headers or {}).get(RETRIES_HEADER),
    )
