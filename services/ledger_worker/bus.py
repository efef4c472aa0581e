"""ports.Bus on RabbitMQ: one channel per partition on a consuming link, replies and events on a publishing link.

Nothing is ever nacked or cancelled one by one: closing a channel gives its deliveries back in order (facts §0.5).
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from services.ledger_worker.announcements import Announcements
from services.ledger_worker.ports import Inbound
from shared import amqp, topology
from shared.amqp import Outgoing
from shared.envelopes import MAC_HEADER, envelope, envelope_body
from shared.ids import Partition, subkey
from shared.messages import BatchEvent, Command, Nudge, Reply

log = structlog.get_logger()

HEARTBEAT_S: Final = 5
PREFETCH_ENVELOPES: Final = 32
CLOSE_TIMEOUT_S: Final = 3.0
# All lines wait for this confirm, unlike that of a sender.
SEND_ON_S_MAX: Final = 0.5
REPLY_KIND: Final = "reply.v1"
NUDGE_KIND: Final = "nudge.v1"
# Nobody waits for an acknowledgement, but each is a command to a quorum queue, with a write of its own to the disk. So
# those of so many seconds, or deliveries, go together; after a crash as many more come again, and are found decided.
OWED_S_MAX: Final = 0.1
OWED_DELIVERIES_MAX: Final = PREFETCH_ENVELOPES // 2


class RabbitBus:
    """Deliveries go to `deliver` and nudges to `nudged`, both plain calls that must not wait."""

    def __init__(
        self,
        url: str,
        owner: str,
        *,
        secret: str,
        deliver: Callable[[Inbound], None],
        nudged: Callable[[Partition], None],
        lost: Callable[[Partition], None],
    ) -> None:
        self._mac_key = subkey(secret, "envelope")
        self._deliver = deliver
        self._nudged = nudged
        self._lost = lost
        self._channels: dict[Partition, amqp.Channel] = {}
        self._wanted: set[Partition] = set()
        self._changed = asyncio.Event()
        self._unconfirmed: amqp.Channel | None = None
        self._confirmed: amqp.Channel | None = None
        self._nudges: tuple[amqp.Channel, str] | None = None
        self._owed: dict[Partition, Inbound] = {}  # the last delivery that is committed and not acknowledged
        self._acknowledged: dict[Partition, tuple[amqp.Channel, int]] = {}
        self._owing = asyncio.Event()
        self._announcements = Announcements(lambda: self._confirmed)
        self._consuming = amqp.Link(
            url,
            name=f"{owner}.consume",
            opened=self._open_consuming,
            lost=self._lose_consuming,
            heartbeat_s=HEARTBEAT_S,
        )
        self._publishing = amqp.Link(
            url, name=f"{owner}.publish", opened=self._open_publishing, lost=self._lose_publishing
        )

    async def run(self) -> None:
        """Keeps links, channels and the publication of events until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._consuming.run(), name="consuming link")
            group.create_task(self._publishing.run(), name="publishing link")
            group.create_task(self._keep_channels(), name="partition channels")
            group.create_task(self._announcements.run(), name="events")
            group.create_task(self._acknowledge_owed(), name="acknowledgements")

    def is_ready(self) -> bool:
        """Both links are open."""
        return self._consuming.connection is not None and self._publishing.connection is not None

    def consumes(self, partition: Partition) -> bool:
        """Whether the partition's channel is open with its consumer."""
        channel = self._channels.get(partition)
        return channel is not None and not channel.is_closed

    async def open(self, partition: Partition) -> None:
        """See ports.Bus."""
        self._wanted.add(partition)
        self._changed.set()

    async def close(self, partition: Partition) -> None:
        """See ports.Bus."""
        self._wanted.discard(partition)
        await self._acknowledge(partition)
        channel = self._channels.pop(partition, None)
        if channel is not None:
            with contextlib.suppress(*amqp.LINK_FAULTS), amqp.cancelled_only_by_us():
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await channel.close()
        if partition not in self._wanted:
            await self._bind_nudges(partition, bind=False)

    async def acknowledge(self, last: Inbound) -> None:
        """See ports.Bus. Leaves within OWED_S_MAX, before the channel is closed at the latest."""
        self._owed[last.partition] = last
        channel, tag = self._acknowledged.get(last.partition, (None, 0))
        if last.tag - (tag if channel is last.channel else 0) >= OWED_DELIVERIES_MAX:
            await self._acknowledge(last.partition)
        else:
            self._owing.set()

    async def _acknowledge(self, partition: Partition) -> None:
        last = self._owed.pop(partition, None)
        channel = self._channels.get(partition)
        # A tag belongs to its channel: on another it would acknowledge what was not processed.
        if last is None or channel is None or channel is not last.channel or channel.is_closed:
            return
        with contextlib.suppress(*amqp.LINK_FAULTS), amqp.cancelled_only_by_us():
            await channel.basic_ack(last.tag, multiple=True, wait=False)
            self._acknowledged[partition] = channel, last.tag

    async def _acknowledge_owed(self) -> None:
        while True:
            await self._owing.wait()
            self._owing.clear()
            await asyncio.sleep(OWED_S_MAX)
            for partition in list(self._owed):
                await self._acknowledge(partition)

    async def reply(self, reply_to: str, reply: Reply) -> None:
        """See ports.Bus."""
        if self._unconfirmed is None:
            return
        body = reply.model_dump_json(exclude_defaults=True).encode()
        with contextlib.suppress(*amqp.LINK_FAULTS):
            await amqp.publish_unconfirmed(
                self._unconfirmed, Outgoing("", reply_to, body, REPLY_KIND, persistent=False)
            )

    async def nudge(self, source: Partition, destination: Partition) -> None:
        """See ports.Bus."""
        if self._unconfirmed is None:
            return
        body = Nudge(source=source, destination=destination).model_dump_json().encode()
        with contextlib.suppress(*amqp.LINK_FAULTS):
            await amqp.publish_unconfirmed(
                self._unconfirmed,
                Outgoing(
                    topology.EVENTS,
                    topology.nudge_key(destination),
                    body,
                    NUDGE_KIND,
                    persistent=False,
                ),
            )

    async def send_on(self, partition: Partition, reply_to: str | None, commands: Sequence[Command]) -> None:
        """See ports.Bus."""
        body = envelope_body(commands)
        await amqp.publish(
            self._confirmed,
            envelope(partition, body, self._mac_key, commands=len(commands), reply_to=reply_to),
            timeout_s=SEND_ON_S_MAX,
        )

    async def park(self, inbound: Inbound, reason: str) -> None:
        """See ports.Bus."""
        await amqp.publish(
            self._confirmed,
            Outgoing(
                topology.DEAD_LETTERS,
                topology.PARKING_KEY,
                inbound.body,
                inbound.kind or "unknown",
                reply_to=inbound.reply_to,
                headers={
                    "x-parked-id": uuid.uuid4().hex,
                    "x-parked-reason": reason[:2_000],
                    "x-parked-at": int(time.time()),
                    "x-original-exchange": topology.COMMANDS,
                    "x-original-key": topology.partition_key(inbound.partition),
                    **({MAC_HEADER: inbound.mac} if inbound.mac else {}),
                },
            ),
        )

    def announce(self, partition: Partition, event: BatchEvent) -> None:
        """See ports.Bus."""
        self._announcements.add(partition, event)

    async def _keep_channels(self) -> None:
        attempt = 0
        while True:
            await self._changed.wait()
            self._changed.clear()
            failed = False
            for partition in sorted(self._wanted - self._channels.keys()):
                try:
                    with amqp.cancelled_only_by_us():
                        await self._consume(partition)
                except amqp.LINK_FAULTS as fault:
                    # A queue that is gone keeps no other partition waiting.
                    log.warning("channel.failed", partition=partition, fault=repr(fault), attempt=attempt)
                    failed = True
            if failed:
                await asyncio.sleep(amqp.backoff_s(attempt))
                self._changed.set()
            attempt = attempt + 1 if failed else 0

    async def _consume(self, partition: Partition) -> None:
        connection = self._consuming.connection
        if connection is None:
            return  # _open_consuming sets the event again
        channel = await amqp.open_channel(connection, confirmed=False)
        await channel.basic_qos(prefetch_count=PREFETCH_ENVELOPES)

        async def received(message: amqp.Delivery) -> None:
            self._deliver(_inbound(partition, channel, message))

        self._channels[partition] = channel
        amqp.closing(channel).add_done_callback(lambda _: self._channel_closed(partition, channel))
        # A consumer that the broker cancels (its queue was deleted) leaves the channel open and silent.
        channel.on_consumer_cancel_callbacks.add(lambda _: channel.close())
        try:
            await channel.basic_consume(topology.partition_queue(partition), received, no_ack=False)
            await self._bind_nudges(partition, bind=True)
        except BaseException:
            self._forget_channel(partition, channel)
            raise
        log.info("partition.consuming", partition=partition)

    def _forget_channel(self, partition: Partition, channel: amqp.Channel) -> None:
        if self._channels.get(partition) is channel:
            del self._channels[partition]
            self._lost(partition)

    def _channel_closed(self, partition: Partition, channel: amqp.Channel) -> None:
        self._forget_channel(partition, channel)
        if partition in self._wanted:
            self._changed.set()

    async def _bind_nudges(self, partition: Partition, *, bind: bool) -> None:
        if self._nudges is None:
            return
        channel, queue = self._nudges
        change = channel.queue_bind if bind else channel.queue_unbind
        # A broker that says nothing must not hold up giving a partition back.
        with contextlib.suppress(*amqp.LINK_FAULTS), amqp.cancelled_only_by_us():
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await change(queue, exchange=topology.EVENTS, routing_key=topology.nudge_key(partition))

    async def _open_consuming(self, connection: amqp.Connection) -> Sequence[amqp.Channel]:
        self._nudges = await amqp.open_reply_queue(connection, self._hear_nudge)
        self._changed.set()
        return [self._nudges[0]]

    def _lose_consuming(self) -> None:
        self._nudges = None
        for partition in list(self._channels):
            del self._channels[partition]
            self._lost(partition)

    async def _open_publishing(self, connection: amqp.Connection) -> Sequence[amqp.Channel]:
        self._unconfirmed = await amqp.open_channel(connection, confirmed=False)
        self._confirmed = await amqp.open_confirmed(connection)
        return [self._unconfirmed, self._confirmed]

    def _lose_publishing(self) -> None:
        self._unconfirmed = self._confirmed = None

    async def _hear_nudge(self, body: bytes) -> None:
        self._nudged(Partition(Nudge.model_validate_json(body).destination))


def _inbound(partition: Partition, channel: amqp.Channel, message: amqp.Delivery) -> Inbound:
    properties = message.header.properties
    headers = properties.headers or {}
    mac = headers.get(MAC_HEADER)
    if message.delivery_tag is None:
        raise RuntimeError("a delivery without a tag")
    return Inbound(
        partition,
        message.body,
        mac if isinstance(mac, str) else None,
        properties.reply_to,
        bool(message.redelivered),
        channel,
        message.delivery_tag,
        properties.message_type,
    )
