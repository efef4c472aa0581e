"""The one way to send commands: partition, envelope, confirm, outcome. Gateway, poller and distributor use this client.

What gathers for a partition while its last envelope is unconfirmed goes out as the next one: exactly one envelope in
flight for each partition and no timer (ADR 0004). A command's way ends in one of four: an answer; NotSent or Refused,
which certainly had no effect; or SendUnknown, whose end stands in the journal, now or later, and which
`operation.cancel` ends for good.
"""

import asyncio
import hmac
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from shared import amqp, topology
from shared.amqp import BusError, NotSent, Outgoing, Refused
from shared.faults import FaultPoint, fault_point
from shared.ids import Partition, subkey
from shared.messages import Command, CommandEnvelope, MixCreate, MixMessage, Outcome, Reply, Settled
from shared.messages.base import COMMANDS_PER_ENVELOPE_MAX, ENVELOPE_BYTES_MAX
from shared.waiting import until_done

log = structlog.get_logger()

IN_FLIGHT_MAX: Final = 20_000
ENVELOPE_KIND: Final = "cmd.v1"
MIX_KIND: Final = "mix.v1"
MAC_HEADER: Final = "mac"


def envelope_mac(key: bytes, body: bytes) -> str:
    """HMAC-SHA256 over the envelope's bytes, so that a stolen broker password cannot make commands."""
    return hmac.digest(key, body, "sha256").hex()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the ledger decided; `settled` holds what is known of credits in other partitions."""

    outcome: Outcome
    settled: tuple[Settled, ...] = ()

    @property
    def is_settled(self) -> bool:
        """Whether every leg has landed (or returned)."""
        return len(self.settled) >= len(self.outcome.legs)


@dataclass(slots=True, eq=False)
class Sent:
    """A command on its way. Several callers may wait for the same one."""

    command: Command | MixCreate
    partition: Partition | None  # None: an order for the mixer
    size: int = 0
    waiters: int = 0
    outcome: Outcome | None = None
    settled: list[Settled] = field(default_factory=list[Settled])
    decided: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def key(self) -> tuple[str, str]:
        """The same id with other content is another question to the ledger, with another answer."""
        return self.command.id, self.command.fingerprint

    def complete(self) -> None:
        """Wakes the waiters once outcome and legs are there; the two may come in either order."""
        if self.outcome is not None and len(self.settled) >= len(self.outcome.legs) and not self.decided.done():
            self.decided.set_result(None)

    def fail(self, fault: BusError) -> None:
        """Wakes the waiters with the publish's fault."""
        if not self.decided.done():
            self.decided.set_exception(fault)
            self.decided.exception()  # somebody may have stopped waiting: no warning about that


class LedgerClient:
    """Sends commands over one link and hears replies over another (a blocked link would hold back the replies)."""

    def __init__(self, amqp_url: str, *, partitions: int, secret: str, name: str) -> None:
        self.partitions = partitions
        self._mac_key = subkey(secret, "envelope")
        self._lines: list[deque[Sent]] = [deque() for _ in range(partitions)]
        self._wake = [asyncio.Event() for _ in range(partitions)]
        self._orders: deque[Sent] = deque()
        self._ordered = asyncio.Event()
        self._sent: dict[tuple[str, str], Sent] = {}
        self._by_id: dict[str, list[Sent]] = {}
        self._channel: amqp.Channel | None = None
        self._reply_to: str | None = None
        self._publishing = amqp.Link(
            amqp_url, name=f"{name}.commands", opened=self._open_commands, lost=self._lose_commands
        )
        self._replying = amqp.Link(amqp_url, name=f"{name}.replies", opened=self._open_replies, lost=self._lose_replies)
        self.replies_unmatched = 0
        self.envelopes = 0

    async def run(self) -> None:
        """Keeps both links and every partition's line until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publishing.run(), name="commands link")
            group.create_task(self._replying.run(), name="replies link")
            for partition in range(self.partitions):
                group.create_task(self._send_line(Partition(partition)), name=f"line {partition}")
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
    def in_flight(self) -> int:
        """Commands that somebody waits for."""
        return len(self._sent)

    def send(self, command: Command, partition: Partition) -> Sent:
        """Puts the command into its partition's line. Raises NotSent (no broker) or Refused (too many in flight).

        The same command (id and content) while the first is undecided joins the first. Follow with `answer`.
        """
        sent, is_new = self._join(command, partition)
        if is_new:
            self._lines[partition].append(sent)
            self._wake[partition].set()
        return sent

    def send_order(self, order: MixCreate) -> Sent:
        """The same for the mixer: the deposit poller decides, and answers as a worker does."""
        sent, is_new = self._join(order, None)
        if is_new:
            self._orders.append(sent)
            self._ordered.set()
        return sent

    def _join(self, command: Command | MixCreate, partition: Partition | None) -> tuple[Sent, bool]:
        known = self._sent.get((command.id, command.fingerprint))
        if known is not None and not known.decided.done():
            return known, False
        if len(self._sent) >= IN_FLIGHT_MAX:
            raise Refused("too many commands in flight")
        if not self.is_ready():
            raise NotSent("the broker is not connected or blocks publishers")
        sent = Sent(command, partition)
        self._sent[sent.key] = sent
        self._by_id.setdefault(command.id, []).append(sent)
        return sent, True

    async def answer(self, sent: Sent, timeout_s: float) -> Answer | None:
        """Waits at most `timeout_s` for the outcome and its legs. None: undecided, or decided with legs on the way.

        Raises NotSent, Refused or Unroutable (no effect), or SendUnknown. After None, `sent.outcome` may hold the
        decision; the journal knows the rest.
        """
        sent.waiters += 1
        try:
            if not sent.decided.done():
                await until_done(sent.decided, timeout_s)
            if sent.decided.done():
                sent.decided.result()  # raises the publish's fault
        finally:
            sent.waiters -= 1
            if sent.waiters == 0:
                self._forget(sent)
        return None if sent.outcome is None else Answer(sent.outcome, tuple(sent.settled))

    async def call(self, command: Command, partition: Partition, timeout_s: float) -> Answer | None:
        """`send` and `answer` in one."""
        return await self.answer(self.send(command, partition), timeout_s)

    def _forget(self, sent: Sent) -> None:
        # A waiter that finishes late must not drop a newer sending of the same command.
        if self._sent.get(sent.key) is sent:
            del self._sent[sent.key]
        same_id = self._by_id.get(sent.command.id)
        if same_id is not None and sent in same_id:
            same_id.remove(sent)
            if not same_id:
                del self._by_id[sent.command.id]

    async def _send_line(self, partition: Partition) -> None:
        line, wake = self._lines[partition], self._wake[partition]
        while True:
            await wake.wait()
            wake.clear()
            while line:
                batch = [line.popleft() for _ in range(min(len(line), COMMANDS_PER_ENVELOPE_MAX))]
                await self._send_envelope(partition, batch)

    async def _send_envelope(self, partition: Partition, batch: Sequence[Sent]) -> None:
        body = (
            CommandEnvelope.model_construct(v=1, commands=tuple(sent.command for sent in batch))
            .model_dump_json(exclude_none=True)
            .encode()
        )
        if len(body) > ENVELOPE_BYTES_MAX and len(batch) > 1:
            middle = len(batch) // 2
            await self._send_envelope(partition, batch[:middle])
            await self._send_envelope(partition, batch[middle:])
            return
        fault_point(FaultPoint.GATEWAY_BEFORE_PUBLISH)
        try:
            await amqp.publish(
                self._channel,
                Outgoing(
                    topology.COMMANDS,
                    topology.partition_key(partition),
                    body,
                    ENVELOPE_KIND,
                    reply_to=self._reply_to,
                    headers={MAC_HEADER: envelope_mac(self._mac_key, body), "p": int(partition), "n": len(batch)},
                ),
            )
        except BusError as fault:
            log.warning("envelope.failed", partition=partition, commands=len(batch), fault=repr(fault))
            for sent in batch:
                sent.fail(fault)
                self._forget(sent)
            return
        self.envelopes += 1
        fault_point(FaultPoint.GATEWAY_AFTER_CONFIRM)

    async def _send_orders(self) -> None:
        while True:
            await self._ordered.wait()
            self._ordered.clear()
            while self._orders:
                await self._send_order(self._orders.popleft())

    async def _send_order(self, sent: Sent) -> None:
        body = MixMessage.model_validate({"order": sent.command}).model_dump_json().encode()
        try:
            await amqp.publish(
                self._channel,
                Outgoing(
                    topology.MIXER,
                    topology.MIX_KEY,
                    body,
                    MIX_KIND,
                    reply_to=self._reply_to,
                    headers={MAC_HEADER: envelope_mac(self._mac_key, body)},
                ),
            )
        except BusError as fault:
            log.warning("order.failed", kind=sent.command.kind, fault=repr(fault))
            sent.fail(fault)
            self._forget(sent)

    def _hear(self, body: bytes) -> None:
        reply = Reply.model_validate_json(body)
        for outcome in reply.outcomes:
            sent = self._sent.get((outcome.id, outcome.fingerprint))
            if sent is None:
                self.replies_unmatched += 1
            elif sent.outcome is None:
                sent.outcome = outcome
                sent.complete()
        for settled in reply.settled:
            for sent in self._by_id.get(settled.id, ()):
                if all(settled.partition != known.partition for known in sent.settled):
                    sent.settled.append(settled)
                    sent.complete()

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
