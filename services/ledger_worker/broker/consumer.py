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

from services.ledger_worker.ports import Delivery
from shared.broker.channels import (
    BROKER_FAULTS,
    Channel,
    Connection,
    IncomingMessage,
    cancelled_only_by_us,
    consume_exclusive_queue,
    open_channel,
    when_closed,
)
from shared.broker.connection import ManagedConnection
from shared.broker.dead_letters import RETRIES_HEADER
from shared.broker.declare import DEAD_LETTER_QUEUE, BoundQueue, commands_of, declare_bound, declare_exchange
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
TOPOLOGY_S: Final = 5.0
ACK_DELIVERIES_MAX: Final = PREFETCH_ENVELOPES // 2


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

    def __init__(self, url: str, owner: str, sink: DeliverySink) -> None:
        self._sink = sink
        self._channels: dict[Partition, PartitionChannel] = {}
        self._wanted: set[Partition] = set()
        self._closing: set[asyncio.Future[None]] = set()
        self._is_channel_missing = asyncio.Event()
        self._has_unacknowledged = asyncio.Event()
        self._has_many_unacknowledged = asyncio.Event()
        self._nudges: tuple[Channel, str] | None = None
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
        if partition not in self._wanted:
            await self._bind_nudges(partition, bind=False)

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
        attempt = 0
        while True:
            await self._is_channel_missing.wait()
            self._is_channel_missing.clear()
            is_failed = False
            for partition in sorted(self._wanted - self._channels.keys()):
                try:
                    with cancelled_only_by_us():
                        await self._consume(partition)
                except BROKER_FAULTS as fault:
                    # One queue that is gone must not keep the other partitions waiting.
                    log.warning("channel.failed", partition=partition, fault=repr(fault), attempt=attempt)
                    is_failed = True
            if is_failed:
                await asyncio.sleep(backoff_s(attempt))
                self._is_channel_missing.set()
            attempt = attempt + 1 if is_failed else 0

    async def _keep_topology(self) -> None:
        """Declares again what was deleted and would not be missed before it is needed: exchanges, bindings."""
        while True:
            await asyncio.sleep(TOPOLOGY_S)
            connection = self._connection.current
            if connection is None:
                continue
            try:
                with cancelled_only_by_us():
                    async with asyncio.timeout(TOPOLOGY_S):
                        await _declare(connection, [DEAD_LETTER_QUEUE, *map(commands_of, sorted(self._wanted))])
            except BROKER_FAULTS as fault:
                log.warning("topology.not_declared", fault=repr(fault))
            for partition in sorted(self._wanted):
                await self._bind_nudges(partition, bind=True)

    async def _consume(self, partition: Partition) -> None:
        connection = self._connection.current
        if connection is None:
            return  # `_opened` sets the event again
        channel = await open_channel(connection, confirmed=False)
        await declare_bound(channel, commands_of(partition))
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
        # A consumer that the broker cancels (its queue was deleted) leaves the channel open and silent.
        channel.on_consumer_cancel_callbacks.add(lambda _: channel.close())
        try:
            await channel.basic_consume(topology.partition_queue(partition), received, no_ack=False)
            await self._bind_nudges(partition, bind=True)
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

    async def _bind_nudges(self, partition: Partition, *, bind: bool) -> None:
        if self._nudges is None:
            return
        channel, queue = self._nudges
        change = channel.queue_bind if bind else channel.queue_unbind
        # A broker that does not answer must not hold up giving a partition back.
        with contextlib.suppress(*BROKER_FAULTS), cancelled_only_by_us():
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await change(queue, exchange=topology.EVENTS, routing_key=topology.NUDGE_KEYS[partition])

    async def _opened(self, connection: Connection) -> Sequence[Channel]:
        await _declare(connection, [])
        self._nudges = await consume_exclusive_queue(connection, self._nudged)
        self._is_channel_missing.set()
        return [self._nudges[0]]

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


async def _declare(connection: Connection, queues: Sequence[BoundQueue]) -> None:
    channel = await open_channel(connection, confirmed=False)
    await declare_exchange(channel, topology.EVENTS)
    for queue in queues:
        await declare_bound(channel, queue)
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
