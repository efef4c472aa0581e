"""The one way to send commands: partition, envelope, confirm, outcome. Gateway, poller and distributor use this client.

What gathers for a worker while envelopes are under way to it goes out as the next one (ADR 4, ADR 10 to 12). A
command's way ends in one of four: an answer; NotSent or Refused, which certainly had no effect; or SendUnknown, whose
end stands in the journal, now or later, and which `operation.cancel` ends for good.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog

from shared import amqp, topology
from shared.amqp import BusError, NotSent, Outgoing, Refused, Unroutable
from shared.answer_links import AnswerLinks
from shared.envelopes import MAC_HEADER, envelope, envelope_body, envelope_mac
from shared.faults import FaultPoint, fault_point
from shared.ids import Partition, partition_of, subkey
from shared.lines import Envelope, Line
from shared.messages import Command, MixCreate, MixMessage, Reply, routed_by
from shared.messages.base import ENVELOPE_BYTES_MAX
from shared.routes import Routes
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
        self._lines = [Line(Partition(partition)) for partition in range(partitions)]
        self._routes = Routes(partitions)
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
        self._answers = AnswerLinks(subkey(secret, "answers"), self._hear)
        self.envelopes = 0

    async def run(self) -> None:
        """Keeps both links and every partition's line until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publishing.run(), name="commands link")
            group.create_task(self._replying.run(), name="replies link")
            group.create_task(self._answers.run(), name="answers")
            group.create_task(self._waking.run(), name="waking")
            for line in self._lines:
                group.create_task(self._send_line(line), name=f"line {line.queue}")
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
            # What no account routes is decided by the partition of its queue, so it travels by no other.
            self._put(sent, partition if routed_by(command) is None else self._routes.queue(partition))
        return sent

    def _put(self, sent: Sent, queue: Partition) -> None:
        self._lines[queue].add(sent)

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
        sent = Sent(command)
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

    async def _send_line(self, line: Line) -> None:
        while True:
            await line.turn.wait()
            # What waited may have gone to other lines before this task had its turn.
            if line.turn.is_set():
                await self._send_next(line)

    async def _send_next(self, line: Line) -> None:
        envelope = line.take()
        if await self._send_envelope(line.queue, envelope.sent):
            line.confirmed(envelope, partial(self._leave, line, envelope))
        else:
            self._leave(line, envelope)

    def _leave(self, line: Line, unheard: Envelope) -> None:
        """Nobody is heard by this queue: it leads to no worker, and what others have in its line goes by their own."""
        line.end(unheard)
        self._routes.forget(line.queue)
        for sent in line.take_all():
            self._put(sent, self._own_queue(sent, line.queue))

    def _own_queue(self, sent: Sent, queue: Partition) -> Partition:
        """That of the command's own partition; what no account routes stays where its sender put it."""
        account = None if isinstance(sent.command, MixCreate) else routed_by(sent.command)
        return queue if account is None else partition_of(account, self.partitions)

    async def _send_envelope(self, queue: Partition, batch: Sequence[Sent]) -> bool:
        """Whether the broker has it."""
        body = envelope_body([sent.command for sent in batch if not isinstance(sent.command, MixCreate)])
        if len(body) > ENVELOPE_BYTES_MAX and len(batch) > 1:
            middle = len(batch) // 2
            await self._send_envelope(queue, batch[:middle])
            return await self._send_envelope(queue, batch[middle:])
        fault_point(FaultPoint.GATEWAY_BEFORE_PUBLISH)
        try:
            await amqp.publish(
                self._channel,
                envelope(queue, body, self._mac_key, commands=len(batch), reply_to=self._reply_to),
            )
        except BusError as fault:
            log.warning("envelope.failed", queue=queue, commands=len(batch), fault=repr(fault))
            if isinstance(fault, Refused | Unroutable):
                self._routes.shun(queue)
            for sent in batch:
                self._send_otherwise(sent, queue, fault)
            return False
        self.envelopes += 1
        self._routes.trust(queue)
        fault_point(FaultPoint.GATEWAY_AFTER_CONFIRM)
        return True

    def _send_otherwise(self, sent: Sent, queue: Partition, fault: BusError) -> None:
        """What another partition's queue certainly did not take goes by its own."""
        own = self._own_queue(sent, queue)
        if own == queue or not isinstance(fault, Refused | Unroutable):
            self._fail(sent, fault)
        else:
            self._put(sent, own)

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
        sent.fault = fault
        sent.wake()
        if sent.outcome is None:  # else its legs may still be told
            self._in_flight.forget(sent)

    def _hear(self, body: bytes) -> None:
        """Lets the next envelopes leave, then has those woken who wait."""
        reply = Reply.model_validate_json(body)
        if reply.worker:
            self._routes.learn(reply.worker, reply.owned, reply.queue)
        if reply.answers_at and self._reply_to is not None:
            self._answers.want(reply.answers_at, self._reply_to)
        answered = {(outcome.id, outcome.fingerprint) for outcome in reply.outcomes}
        for line in self._lines:
            line.hear(answered)
        self._waking.give(reply)

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
