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

from services.ledger_worker.acknowledgements import PREFETCH_ENVELOPES, Acknowledgements
from services.ledger_worker.announcements import Announcements
from services.ledger_worker.metrics import REPLIES
from services.ledger_worker.ports import Inbound
from services.ledger_worker.senders import Senders
from shared import amqp, topology
from shared.amqp import Outgoing
from shared.envelopes import MAC_HEADER, envelope_body, outgoing_envelope
from shared.ids import Partition, subkey
from shared.messages import BatchEvent, Command, Nudge, Reply

log = structlog.get_logger()

HEARTBEAT_S: Final = 5
CLOSE_TIMEOUT_S: Final = 3.0
# All lines wait for this confirm, unlike that of a sender.
SEND_ON_S_MAX: Final = 0.5
DIRECT_REPLIES: Final = REPLIES.labels("direct")
BROKER_REPLIES: Final = REPLIES.labels("broker")
REPLY_KIND: Final = "reply.v1"
NUDGE_KIND: Final = "nudge.v1"


class RabbitBus:
    """Deliveries go to `deliver` and nudges to `nudged`, both plain calls that must not wait."""

    def __init__(
        self,
        url: str,
        owner: str,
        senders: Senders,
        *,
        secret: str,
        deliver: Callable[[Inbound], None],
        nudged: Callable[[Partition], None],
        lost: Callable[[Partition], None],
    ) -> None:
        self._mac_key = subkey(secret, "envelope")
        self._broker = url
        self._senders = senders
        self._deliver = deliver
        self._nudged = nudged
        self._lost = lost
        self._channels: dict[Partition, amqp.Channel] = {}
        self._wanted: set[Partition] = set()
        self._changed = asyncio.Event()
        self._unconfirmed: amqp.Channel | None = None
        self._confirmed: amqp.Channel | None = None
        self._nudges: tuple[amqp.Channel, str] | None = None
        self._acknowledgements = Acknowledgements(self._channels)
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
            group.create_task(self._acknowledgements.run(), name="acknowledgements")

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
        await self._acknowledgements.settle(partition)
        channel = self._channels.pop(partition, None)
        if channel is not None:
            with contextlib.suppress(*amqp.LINK_FAULTS), amqp.cancelled_only_by_us():
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await channel.close()
        if partition not in self._wanted:
            await self._bind_nudges(partition, bind=False)

    def acknowledge(self, done: Inbound) -> None:
        """See ports.Bus."""
        self._acknowledgements.owe(done)

    async def reply(self, reply_to: str, reply: Reply) -> None:
        """See ports.Bus. Straight to whoever listens, else by the broker, saying where this worker can be heard."""
        if not self._senders.hears(reply_to):
            reply = reply.model_copy(update={"direct_at": self._senders.address})
        body = reply.model_dump_json(exclude_defaults=True).encode()
        if await self._senders.tell(reply_to, body):
            DIRECT_REPLIES.inc()
            return
        if self._unconfirmed is None:
            return
        BROKER_REPLIES.inc()
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
            outgoing_envelope(partition, body, self._mac_key, commands=len(commands), reply_to=reply_to),
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
        if partition not in self._wanted:  # given back meanwhile: nobody would acknowledge what it brought
            await channel.close()
            return

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
        await self._senders.locate(self._broker)
        self._unconfirmed = await amqp.open_channel(connection, confirmed=False)
        self._confirmed = await amqp.open_confirmed(connection)
        return [self._unconfirmed, self._confirmed]

    def _lose_publishing(self) -> None:
        self._unconfirmed = self._confirmed = None

    def _hear_nudge(self, body: bytes) -> None:
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
        properties.message_id,
    )
