"""Orders for mixes: taken from RabbitMQ, decided each once by the rules for repeated commands, and replied to."""

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from typing import Final

import structlog
from prometheus_client import Counter
from pydantic import ValidationError

from services.deposit_poller.core.destinations import refusal_of
from services.deposit_poller.list_scanner import ListScanner
from services.deposit_poller.store.mixes import MixStore
from shared.broker.channels import (
    BROKER_FAULTS,
    Channel,
    Connection,
    IncomingMessage,
    OutgoingMessage,
    PublishFailed,
    cancelled_only_by_us,
    close_when_cancelled,
    open_channel,
    publish,
    temporary_channel,
)
from shared.broker.connection import ManagedConnection
from shared.broker.dead_letters import RETRIES_HEADER, dead_letter
from shared.broker.declare import DEAD_LETTER_QUEUE, MIX_ORDER_QUEUE, declare_queue, publish_to
from shared.database.postgres import TRANSIENT_FAULTS
from shared.domain.ids import subkey
from shared.domain.rejections import Rejection
from shared.messages import FieldFault, MixCreate, MixMessage, Outcome, Reply, topology
from shared.messages.envelopes import MAC_HEADER, is_signed
from shared.messages.mixer import mix_id
from shared.messages.replies import REPLY_KIND
from shared.mixer.jobcoin import AddressUnreadable, JobcoinNetwork, NetworkUnavailable
from shared.mixer.jobcoin_rows import Address
from shared.mixer.ledger import MixerLedger
from shared.runtime.fault_points import FaultPoint, fault_point

log = structlog.get_logger()

MIXES = Counter("poller_mixes", "Orders for mixes, by outcome", ["outcome"])
DEAD_LETTERS = Counter("poller_dead_letters", "Messages set aside for an operator")
PREFETCH_ORDERS: Final = 16
RETRY_S: Final = 1.0
# An address that could not be read so often counts as used, while others can be read.
ADDRESS_TRIES_MAX: Final = 10
# An order that was decided before is answered at once, maybe before the connection for replies is open.
REPLY_WAIT_S_MAX: Final = 5.0


class OrderUndecided(Exception):
    """The journal does not hold the order's outcome yet."""


# Faults of `OrderHandler.decide` after which the order is tried again.
UNDECIDED_FAULTS: Final = (NetworkUnavailable, OrderUndecided, *TRANSIENT_FAULTS)


class OrderHandler:
    """Makes mixes. The journal arbitrates: a mix's order is an operation of the ledger like any other (ADR 9)."""

    def __init__(
        self,
        network: JobcoinNetwork,
        ledger: MixerLedger,
        mixes: MixStore,
        house: Address,
        scanner: ListScanner,
    ) -> None:
        self._network = network
        self._ledger = ledger
        self._mixes = mixes
        self._house = house
        self._scanner = scanner

    async def decide(self, order: MixCreate, tries: int = 0) -> Outcome:
        """The outcome, once the journal has it. `tries`: how often this order was tried before.

        Raises what is in UNDECIDED_FAULTS.
        """
        outcome = await self._ledger.outcome_of_order(order)
        if outcome is not None:
            MIXES.labels("replayed").inc()
            is_reused = outcome.code is Rejection.IDEMPOTENCY_KEY_REUSED
            return outcome.model_copy(update={"replayed": not is_reused})
        errors = await self._errors(order, tries)
        sent = order
        if not errors:
            # If an order with other content is already recorded under this id, the ledger has to decide that one. The
            # journal then says of this order that its key was reused.
            sent = order.model_copy(update={"fingerprint": await self._mixes.write_order(order)})
            fault_point(FaultPoint.POLLER_AFTER_ORDER_WRITTEN)
        await self._ledger.send_order(sent, errors)
        outcome = await self._ledger.outcome_of_order(order)
        if outcome is None:
            raise OrderUndecided("the journal has no outcome")
        self._scanner.wake.set()
        MIXES.labels(outcome.code or outcome.status).inc()
        log.info("order.decided", operation_id=order.id, mix_id=mix_id(order.id), code=outcome.code)
        return outcome

    async def _errors(self, order: MixCreate, tries: int) -> tuple[FieldFault, ...]:
        """Why destinations cannot be paid to. The network is asked about those that have no other fault."""
        destinations = order.destinations
        ours = {self._house, *await self._mixes.mixes_at(destinations)}
        refusals = [refusal_of(destinations, index, ours) for index in range(len(destinations))]
        asked = [index for index, refusal in enumerate(refusals) if refusal is None]
        used = await asyncio.gather(*(self._refusal_of_used(Address(destinations[index]), tries) for index in asked))
        for index, refusal in zip(asked, used, strict=True):
            refusals[index] = refusal
        return tuple(
            FieldFault(field=f"destinations[{index}]", message=message)
            for index, message in enumerate(refusals)
            if message is not None
        )

    async def _refusal_of_used(self, address: Address, tries: int) -> str | None:
        try:
            is_unused = (await self._network.address(address)).is_unused
        except AddressUnreadable:
            return "the network says nothing of the address that can be read, so it counts as used"
        except NetworkUnavailable:
            # An address at which the network always fails must not hold up its order for ever.
            if tries < ADDRESS_TRIES_MAX or self._scanner.missing():
                raise
            return "the address could not be read, so it counts as used"
        return None if is_unused else "the address was used before"


class OrdersConsumer:
    """Consumes the mixer's queue. An order is tried until it is decided, then the reply is sent, then it is acked."""

    def __init__(self, url: str, secrets: Sequence[str], name: str, handler: OrderHandler) -> None:
        self._mac_keys = [subkey(secret, "envelope") for secret in secrets]
        self._handler = handler
        self._orders: asyncio.Queue[tuple[Channel, IncomingMessage]] = asyncio.Queue()
        self._publishing_channel: Channel | None = None
        self._publishing = ManagedConnection(
            url, name=f"{name}.replies", opened=self._open_publishing, lost=self._lose_publishing
        )
        self.connections = (
            ManagedConnection(url, name=f"{name}.orders", opened=self._open_consuming),
            self._publishing,
        )

    async def run(self) -> None:
        """Takes orders until cancelled. What is not acked then goes back to the queue."""
        async with asyncio.TaskGroup() as group:
            for number in range(PREFETCH_ORDERS):
                group.create_task(self._process_orders(), name=f"orders {number}")

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
            return await self._set_aside(channel, message)
        outcome = await self._decide(channel, order)
        if outcome is None:
            return False
        await self._reply(message.header.properties.reply_to, outcome)
        return True

    def _read(self, message: IncomingMessage) -> MixCreate | None:
        """The order, or None if the message is not signed by us or is no order."""
        if not is_signed(self._mac_keys, message.body, (message.header.properties.headers or {}).get(MAC_HEADER)):
            return None
        try:
            return MixMessage.model_validate_json(message.body).order
        except ValidationError:
            return None

    async def _decide(self, channel: Channel, order: MixCreate) -> Outcome | None:
        """The outcome, however long it takes, or None if the channel was closed meanwhile."""
        for tries in itertools.count():
            if channel.is_closed:
                break
            try:
                return await self._handler.decide(order, tries)
            except UNDECIDED_FAULTS as fault:
                log.warning("order.waits", operation_id=order.id, fault=repr(fault))
            await asyncio.sleep(RETRY_S)
        return None

    async def _set_aside(self, channel: Channel, message: IncomingMessage) -> bool:
        """True once its dead letter is published, however long it takes; False if the channel was closed meanwhile."""
        while not channel.is_closed:
            if await self._publish_dead_letter(message):
                return True
            await asyncio.sleep(RETRY_S)
        return False

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
            retries=(properties.headers or {}).get(RETRIES_HEADER),
        )
        try:
            await publish_to(self._publishing_channel, DEAD_LETTER_QUEUE, copy)
        except PublishFailed as fault:
            log.warning("dead_letter.not_published", fault=repr(fault))
            return False
        DEAD_LETTERS.inc()
        log.error("order.dead_lettered")
        return True

    async def _reply(self, reply_to: str | None, outcome: Outcome) -> None:
        """A reply may be lost: the outcome stands in the journal, where the gateway reads it."""
        if reply_to is not None:
            body = Reply(outcomes=(outcome,)).model_dump_json(exclude_defaults=True).encode()
            reply = OutgoingMessage("", reply_to, body, REPLY_KIND, persistent=False, mandatory=False)
            with contextlib.suppress(PublishFailed):
                await self._publishing.wait_open(REPLY_WAIT_S_MAX)
                await publish(self._publishing_channel, reply)

    async def _open_consuming(self, connection: Connection) -> Sequence[Channel]:
        channel = await open_channel(connection, confirmed=False)
        await declare_queue(channel, MIX_ORDER_QUEUE)
        await channel.basic_qos(prefetch_count=PREFETCH_ORDERS)

        async def received(message: IncomingMessage) -> None:
            self._orders.put_nowait((channel, message))

        close_when_cancelled(channel)
        await channel.basic_consume(topology.MIX_QUEUE, received, no_ack=False)
        return [channel]

    async def _open_publishing(self, connection: Connection) -> Sequence[Channel]:
        async with temporary_channel(connection) as channel:
            await declare_queue(channel, DEAD_LETTER_QUEUE)
        self._publishing_channel = await open_channel(connection, confirmed=True)
        return [self._publishing_channel]

    def _lose_publishing(self) -> None:
        self._publishing_channel = None
