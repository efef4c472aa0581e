"""Orders from RabbitMQ, and the answers to them."""

import asyncio
import contextlib
import hmac
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
from pydantic import ValidationError

from services.deposit_poller import metrics
from shared import amqp, topology
from shared.amqp import Outgoing
from shared.envelopes import MAC_HEADER, envelope_mac
from shared.ids import subkey
from shared.messages import MixCreate, MixMessage, Outcome, Reply

log = structlog.get_logger()

PREFETCH_ORDERS: Final = 16
RETRY_S: Final = 1.0
REPLY_KIND: Final = "reply.v1"

Decide = Callable[[MixCreate], Awaitable[Outcome]]


class OrderBus:
    """Consumes the mixer's queue. An order is acknowledged once decided and answered; until then it is tried again."""

    def __init__(self, url: str, secret: str, name: str, *, decide: Decide, later: tuple[type[Exception], ...]) -> None:
        self._mac_key = subkey(secret, "envelope")
        self._decide = decide
        self._later = later
        self._orders: asyncio.Queue[tuple[amqp.Channel, amqp.Delivery]] = asyncio.Queue()
        self._unconfirmed: amqp.Channel | None = None
        self._confirmed: amqp.Channel | None = None
        self._consuming = amqp.Link(url, name=f"{name}.orders", opened=self._open_consuming)
        self._publishing = amqp.Link(
            url, name=f"{name}.answers", opened=self._open_publishing, lost=self._lose_publishing
        )

    async def run(self) -> None:
        """Takes orders until cancelled; what is not decided then goes back to the queue."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._consuming.run(), name="orders link")
            group.create_task(self._publishing.run(), name="answers link")
            for number in range(PREFETCH_ORDERS):
                group.create_task(self._serve(), name=f"orders {number}")

    def is_ready(self) -> bool:
        """Both links are open."""
        return self._consuming.connection is not None and self._publishing.connection is not None

    async def _serve(self) -> None:
        while True:
            channel, message = await self._orders.get()
            if not channel.is_closed:  # a closed one has given its orders back
                await self._answer(channel, message)

    async def _answer(self, channel: amqp.Channel, message: amqp.Delivery) -> None:
        order = self._read(message)
        if order is None:
            if not await self._park(message):
                return  # not acknowledged: it comes again with the next channel
        else:
            outcome = await self._decided(channel, order)
            if outcome is None:
                return
            await self._reply(message.header.properties.reply_to, outcome)
        if message.delivery_tag is not None:
            with contextlib.suppress(*amqp.LINK_FAULTS), amqp.cancelled_only_by_us():
                await channel.basic_ack(message.delivery_tag)

    async def _decided(self, channel: amqp.Channel, order: MixCreate) -> Outcome | None:
        """The outcome, however long it takes; None when the order was given back meanwhile."""
        while not channel.is_closed:
            try:
                return await self._decide(order)
            except self._later as fault:
                log.warning("order.waits", operation_id=order.id, fault=repr(fault))
                await asyncio.sleep(RETRY_S)
            except ExceptionGroup as faults:
                if faults.split(self._later)[1] is not None:
                    raise
                log.warning("order.waits", operation_id=order.id, fault=repr(faults.exceptions[0]))
                await asyncio.sleep(RETRY_S)
        return None

    def _read(self, message: amqp.Delivery) -> MixCreate | None:
        mac = (message.header.properties.headers or {}).get(MAC_HEADER)
        if not isinstance(mac, str) or not hmac.compare_digest(
            mac.encode(), envelope_mac(self._mac_key, message.body).encode()
        ):
            return None
        try:
            return MixMessage.model_validate_json(message.body).order
        except ValidationError:
            return None

    async def _park(self, message: amqp.Delivery) -> bool:
        properties = message.header.properties
        headers: dict[str, str | int] = {
            "x-parked-id": uuid.uuid4().hex,
            "x-parked-reason": "not an order of ours",
            "x-parked-at": int(time.time()),
            "x-original-exchange": topology.MIXER,
            "x-original-key": topology.MIX_KEY,
        }
        mac = (properties.headers or {}).get(MAC_HEADER)
        if isinstance(mac, str):
            headers[MAC_HEADER] = mac
        try:
            await amqp.publish(
                self._confirmed,
                Outgoing(
                    topology.DEAD_LETTERS,
                    topology.PARKING_KEY,
                    message.body,
                    properties.message_type or "unknown",
                    reply_to=properties.reply_to,
                    headers=headers,
                ),
            )
        except amqp.BusError as fault:
            log.warning("order.not_parked", fault=repr(fault))
            return False
        metrics.PARKED.inc()
        log.error("order.parked")
        return True

    async def _reply(self, reply_to: str | None, outcome: Outcome) -> None:
        if reply_to is None or self._unconfirmed is None:
            return
        body = Reply(outcomes=(outcome,)).model_dump_json(exclude_defaults=True).encode()
        with contextlib.suppress(*amqp.LINK_FAULTS):
            await amqp.publish_unconfirmed(
                self._unconfirmed, Outgoing("", reply_to, body, REPLY_KIND, persistent=False)
            )

    async def _open_consuming(self, connection: amqp.Connection) -> Sequence[amqp.Channel]:
        channel = await amqp.open_channel(connection, confirmed=False)
        await channel.basic_qos(prefetch_count=PREFETCH_ORDERS)

        async def received(message: amqp.Delivery) -> None:
            self._orders.put_nowait((channel, message))

        # A consumer that the broker cancels (its queue was deleted) leaves the channel open and silent.
        channel.on_consumer_cancel_callbacks.add(lambda _: channel.close())
        await channel.basic_consume(topology.MIX_QUEUE, received, no_ack=False)
        return [channel]

    async def _open_publishing(self, connection: amqp.Connection) -> Sequence[amqp.Channel]:
        self._unconfirmed = await amqp.open_channel(connection, confirmed=False)
        self._confirmed = await amqp.open_confirmed(connection)
        return [self._unconfirmed, self._confirmed]

    def _lose_publishing(self) -> None:
        self._unconfirmed = self._confirmed = None
