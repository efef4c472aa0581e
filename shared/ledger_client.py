"""The one way to send commands and to hear what became of them. Gateway, poller and distributor use this client.

A command's way ends in one of four: an answer; NotSent or Refused, which certainly had no effect; or SendUnknown, whose
end stands in the journal, now or later, and which `operation.cancel` ends for good.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

import structlog

from shared import amqp, topology
from shared.amqp import BusError, NotSent, Outgoing, Refused, SendUnknown
from shared.courier import Connected, Courier
from shared.direct_links import DirectLinks
from shared.envelopes import MAC_HEADER, envelope_mac
from shared.ids import Partition, subkey
from shared.messages import Command, MixCreate, MixMessage, Reply
from shared.sending import Answer, InFlight, Sent
from shared.waking import Waking

log = structlog.get_logger()

IN_FLIGHT_MAX: Final = 20_000
MIX_KIND: Final = "mix.v1"


class LedgerClient:
    """Sends commands over one link and hears replies over another (a blocked link would hold back the replies)."""

    def __init__(self, amqp_url: str, *, partitions: int, secret: str, name: str) -> None:
        self.partitions = partitions
        self._mac_key = subkey(secret, "envelope")
        self._orders: deque[Sent] = deque()
        self._ordered = asyncio.Event()
        self._in_flight = InFlight()
        self._waking = Waking(self._in_flight)
        self._channel: amqp.Channel | None = None
        self._reply_to: str | None = None
        self._publishing = amqp.Link(
            amqp_url, name=f"{name}.commands", opened=self._open_commands, lost=self._lose_commands
        )
        self._replying = amqp.Link(amqp_url, name=f"{name}.replies", opened=self._open_replies, lost=self._lose_replies)
        self._links = DirectLinks(subkey(secret, "direct"), self._hear)
        self._courier = Courier(
            partitions=partitions,
            secret=secret,
            links=self._links,
            connected=lambda: Connected(self._channel, self._reply_to),
            failed=self._fail,
        )

    async def run(self) -> None:
        """Keeps both links and every partition's line until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publishing.run(), name="commands link")
            group.create_task(self._replying.run(), name="replies link")
            group.create_task(self._links.run(), name="direct links")
            group.create_task(self._waking.run(), name="waking")
            group.create_task(self._courier.run(), name="courier")
            group.create_task(self._send_orders(), name="orders")

    def is_ready(self) -> bool:
        """Both links are open and the broker takes publishes."""
        return self._publishing.is_writable() and self._replying.connection is not None and self._reply_to is not None

    async def ask_broker(self) -> None:
        """Returns once the broker has answered on both links, and still has our reply queue. Raises NotSent."""
        publishing, replying = self._publishing.connection, self._replying.connection
        if not self.is_ready() or publishing is None or replying is None:
            raise NotSent("the broker is not connected or blocks publishers")
        try:
            await amqp.ask(publishing)
            await amqp.ask(replying, queue=self._reply_to)
        except amqp.LINK_FAULTS as fault:
            raise NotSent(repr(fault)) from fault

    @property
    def envelopes(self) -> int:
        """Envelopes that the broker has confirmed."""
        return self._courier.envelopes

    @property
    def envelopes_ahead(self) -> int:
        """Envelopes that went ahead of the broker."""
        return self._courier.envelopes_ahead

    @property
    def replies_unmatched(self) -> int:
        """Outcomes that nobody waited for."""
        return self._waking.unmatched

    @property
    def in_flight(self) -> int:
        """Commands that somebody waits for."""
        return len(self._in_flight)

    def send(self, command: Command, partition: Partition) -> Sent:
        """Puts the command into the line of its partition's owner. Raises NotSent (no broker) or Refused (too many).

        The same command (id and content) while the first is undecided joins the first. Follow with `answer`.
        """
        sent, is_new = self._join(command)
        if is_new:
            self._courier.add(sent, partition)
        return sent

    def send_order(self, order: MixCreate) -> Sent:
        """The same for the mixer: the deposit poller decides, and answers as a worker does."""
        sent, is_new = self._join(order)
        if is_new:
            self._orders.append(sent)
            self._ordered.set()
        return sent

    def _join(self, command: Command | MixCreate) -> tuple[Sent, bool]:
        known = self._in_flight.find(command)
        if known is not None:
            return known, False
        if len(self._in_flight) >= IN_FLIGHT_MAX:
            raise Refused("too many commands in flight")
        if not self.is_ready():
            raise NotSent("the broker is not connected or blocks publishers")
        sent = Sent(command, went_ahead=self._in_flight.went_ahead(command))
        self._in_flight.add(sent)
        return sent, True

    async def answer(self, sent: Sent, timeout_s: float) -> Answer | None:
        """Waits at most `timeout_s` for the outcome and its legs. None: undecided, or decided with legs on the way.

        Raises NotSent, Refused or Unroutable (no effect), or SendUnknown. After None, `sent.outcome` may hold the
        decision; the journal knows the rest.
        """
        try:
            if not sent.is_ended:
                await sent.wait(timeout_s)
        finally:
            if not sent.waiting:
                self._in_flight.forget(sent)
        if sent.fault is not None and sent.outcome is None:
            raise sent.fault.with_traceback(None)  # many may raise the same one
        return None if sent.outcome is None else Answer(sent.outcome, sent.settled)

    async def call(self, command: Command, partition: Partition, timeout_s: float) -> Answer | None:
        """`send` and `answer` in one."""
        return await self.answer(self.send(command, partition), timeout_s)

    async def _send_orders(self) -> None:
        while True:
            await self._ordered.wait()
            self._ordered.clear()
            while self._orders:
                await self._send_order(self._orders.popleft())

    async def _send_order(self, sent: Sent) -> None:
        body = MixMessage.model_validate({"order": sent.command}).model_dump_json().encode()
        mac = {MAC_HEADER: envelope_mac(self._mac_key, body)}
        order = Outgoing(topology.MIXER, topology.MIX_KEY, body, MIX_KIND, reply_to=self._reply_to, headers=mac)
        try:
            await amqp.publish(self._channel, order)
        except BusError as fault:
            log.warning("order.failed", kind=sent.command.kind, fault=repr(fault))
            self._fail(sent, fault)

    def _fail(self, sent: Sent, fault: BusError) -> None:
        # Of what went ahead a worker may tell the outcome in a moment.
        sent.fault = SendUnknown(repr(fault)) if sent.went_ahead and not isinstance(fault, SendUnknown) else fault
        sent.wake()
        if sent.outcome is None and sent.is_ended:  # else its outcome or its legs may still be told
            self._in_flight.forget(sent)

    def _hear(self, body: bytes) -> str:
        """Lets the next envelopes leave, then has those woken who wait. Returns the worker whose reply it is."""
        reply = Reply.model_validate_json(body)
        if reply.direct_at and self._reply_to is not None:
            self._links.want(reply.direct_at, self._reply_to)
        self._courier.hear(reply)
        self._waking.give(reply)
        return reply.worker

    async def _open_commands(self, connection: amqp.Connection) -> Sequence[amqp.Channel]:
        self._channel = await amqp.open_confirmed(connection)
        return [self._channel]

    def _lose_commands(self) -> None:
        self._channel = None

    async def _open_replies(self, connection: amqp.Connection) -> Sequence[amqp.Channel]:
        channel, self._reply_to = await amqp.open_reply_queue(connection, self._hear)
        return [channel]

    def _lose_replies(self) -> None:
        self._reply_to = None
