"""Takes orders for mixes from RabbitMQ, has them decided, and replies."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

import structlog
from pydantic import ValidationError

from services.deposit_poller import metrics
from services.deposit_poller.orders import UNDECIDED_FAULTS, OrderHandler
from shared.broker.channels import (
    BROKER_FAULTS,
    Channel,
    Connection,
    IncomingMessage,
    OutgoingMessage,
    PublishFailed,
    cancelled_only_by_us,
    open_channel,
    publish,
)
from shared.broker.connection import ManagedConnection
from shared.broker.dead_letters import dead_letter
from shared.domain.ids import subkey
from shared.messages import MixCreate, MixMessage, Outcome, Reply, topology
from shared.messages.envelopes import MAC_HEADER, is_signed
from shared.messages.replies import REPLY_KIND

log = structlog.get_logger()

PREFETCH_ORDERS: Final = 16
RETRY_S: Final = 1.0


class OrdersConsumer:
    """Consumes the mixer's queue. An order is tried until it is decided, then the reply is sent, then it is acked."""

    def __init__(self, url: str, secret: str, name: str, handler: OrderHandler) -> None:
        self._mac_key = subkey(secret, "envelope")
        self._handler = handler
        self._orders: asyncio.Queue[tuple[Channel, IncomingMessage]] = asyncio.Queue()
        self._publishing_channel: Channel | None = None
        self._consuming = ManagedConnection(url, name=f"{name}.orders", opened=self._open_consuming)
        self._publishing = ManagedConnection(
            url, name=f"{name}.replies", opened=self._open_publishing, lost=self._lose_publishing
        )

    async def run(self) -> None:
        """Takes orders until cancelled. What is not acked then goes back to the queue."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._consuming.run(), name="orders connection")
            group.create_task(self._publishing.run(), name="replies connection")
            for number in range(PREFETCH_ORDERS):
                group.create_task(self._process_orders(), name=f"orders {number}")

    def is_ready(self) -> bool:
        """True while both connections are open."""
        return self._consuming.current is not None and self._publishing.current is not None

    async def _process_orders(self) -> None:
        while True:
            channel, message = await self._orders.get()
            # A closed channel has given its messages back: they come again.
            if not channel.is_closed and await self._process(channel, message) and message.delivery_tag is not None:
                with contextlib.suppress(*BROKER_FAULTS), cancelled_only_by_us():
                    await channel.basic_ack(message.delivery_tag)

    async def _process(self, channel: Channel, message: IncomingMessage) -> bool:
        """True once the message may be acked."""
        order = self._read(message)
        if order is None:
            return await self._publish_dead_letter(message)
        outcome = await self._decide(channel, order)
        if outcome is None:
            return False
        await self._reply(message.header.properties.reply_to, outcome)
        return True

    def _read(self, message: IncomingMessage) -> MixCreate | None:
        """The order, or None if the message is not signed by us or is no order."""
        if not is_signed(self._mac_key, message.body, (message.header.properties.headers or {}).get(MAC_HEADER)):
            return None
        try:
            return MixMessage.model_validate_json(message.body).order
        except ValidationError:
            return None

    async def _decide(self, channel: Channel, order: MixCreate) -> Outcome | None:
        """The outcome, however long it takes, or None if the channel was closed meanwhile."""
        while not channel.is_closed:
            try:
                return await self._handler.decide(order)
            except* UNDECIDED_FAULTS as faults:
                log.warning("order.waits", operation_id=order.id, fault=repr(faults.exceptions[0]))
            await asyncio.sleep(RETRY_S)
        return None

    async def _publish_dead_letter(self, message: IncomingMessage) -> bool:
        properties = message.header.properties
        copy = dead_letter(
            message.body,
            kind=properties.message_type,
            reason="not an order of ours",
            exchange=topology.MIXER,
            key=topology.MIX_KEY,
            reply_to=properties.reply_to,
            mac=(properties.headers or {}).get(MAC_HEADER),
        )
        try:
            await publish(self._publishing_channel, copy)
        except PublishFailed as fault:
            log.warning("dead_letter.not_published", fault=repr(fault))
            return False
        metrics.DEAD_LETTERS.inc()
        log.error("order.dead_lettered")
        return True

    async def _reply(self, reply_to: str | None, outcome: Outcome) -> None:
        """A reply may be lost: the outcome stands in the journal, where the gateway reads it."""
        if reply_to is not None:
            body = Reply(outcomes=(outcome,)).model_dump_json(exclude_defaults=True).encode()
            reply = OutgoingMessage("", reply_to, body, REPLY_KIND, persistent=False, mandatory=False)
            with contextlib.suppress(PublishFailed):
                await publish(self._publishing_channel, reply)

    async def _open_consuming(self, connection: Connection) -> Sequence[Channel]:
        channel = await open_channel(connection, confirmed=False)
        await channel.basic_qos(prefetch_count=PREFETCH_ORDERS)

        async def received(message: IncomingMessage) -> None:
            self._orders.put_nowait((channel, message))

        # If the broker cancels the consumer (its queue was deleted), the channel would stay open and silent.
        channel.on_consumer_cancel_callbacks.add(lambda _: channel.close())
        await channel.basic_consume(topology.MIX_QUEUE, received, no_ack=False)
        return [channel]

    async def _open_publishing(self, connection: Connection) -> Sequence[Channel]:
        self._publishing_channel = await open_channel(connection, confirmed=True)
        return [self._publishing_channel]

    def _lose_publishing(self) -> None:
        self._publishing_channel = None
