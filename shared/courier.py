"""Takes commands to the workers that decide them: in envelopes, by the broker, and ahead of it by a link (ADR 15)."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from shared import amqp
from shared.amqp import BusError, Outgoing, Refused, Unroutable
from shared.direct_links import DirectLinks
from shared.envelopes import ahead_of, envelope_body, outgoing_envelope
from shared.faults import FaultPoint, fault_point
from shared.ids import AccountId, Partition, partition_of, subkey
from shared.lines import Envelope, Line
from shared.messages import MixCreate, Reply, routed_by
from shared.messages.base import ENVELOPE_BYTES_MAX
from shared.routes import Routes
from shared.sending import Sent
from shared.values import value

log = structlog.get_logger()


@value
class Connected:
    """What it publishes on, and the name by which replies reach its sender; None without a broker."""

    channel: amqp.Channel | None = None
    reply_to: str | None = None


@value
class Part:
    """One message of an envelope, and what it carries."""

    carried: Sequence[Sent]
    message: Outgoing


class Courier:
    """A line for each partition's queue. `failed` is called with what certainly or perhaps did not reach the broker."""

    def __init__(
        self,
        *,
        partitions: int,
        secret: str,
        links: DirectLinks,
        connected: Callable[[], Connected],
        failed: Callable[[Sent, BusError], None],
    ) -> None:
        self._partitions = partitions
        self._mac_key = subkey(secret, "envelope")
        self._links = links
        self._connected = connected
        self._failed = failed
        self._lines = [Line(Partition(partition)) for partition in range(partitions)]
        self._routes = Routes(partitions)
        self.envelopes = 0  # that the broker has confirmed
        self.envelopes_ahead = 0

    async def run(self) -> None:
        """Sends until cancelled."""
        async with asyncio.TaskGroup() as group:
            for line in self._lines:
                group.create_task(self._send_line(line, group), name=f"line {line.queue}")

    def add(self, sent: Sent, partition: Partition) -> None:
        """Puts a command of this partition into a line that leads to its worker."""
        # What no account routes is decided by the partition of its queue, so it travels by no other.
        self._put(sent, partition if _account_of(sent) is None else self._routes.queue(partition))

    def hear(self, reply: Reply) -> None:
        """Learns who decides what, and lets the next envelopes leave."""
        if reply.worker:
            self._routes.learn(reply.worker, reply.owned, reply.queue)
        answered = {(outcome.id, outcome.fingerprint) for outcome in reply.outcomes}
        for line in self._lines:
            line.hear(answered)

    def _put(self, sent: Sent, queue: Partition) -> None:
        self._lines[queue].add(sent)

    async def _send_line(self, line: Line, publishing: asyncio.TaskGroup) -> None:
        while True:
            await line.turn.wait()
            # What waited may have gone to other lines before this task had its turn.
            if line.turn.is_set():
                await self._send_next(line, publishing)

    async def _send_next(self, line: Line, publishing: asyncio.TaskGroup) -> None:
        envelope = line.take()
        parts = self._parts(line.queue, envelope.sent)
        fault_point(FaultPoint.GATEWAY_BEFORE_PUBLISH)
        is_ahead = self._go_ahead(line, envelope, parts)
        # A task in any case, so that they are published in their order.
        confirming = publishing.create_task(self._publish(line, envelope, parts), name=f"envelope of {line.queue}")
        if not is_ahead:
            await confirming

    def _parts(self, queue: Partition, carried: Sequence[Sent]) -> list[Part]:
        """One message, or several if that would be too large."""
        body = envelope_body([sent.command for sent in carried if not isinstance(sent.command, MixCreate)])
        if len(body) > ENVELOPE_BYTES_MAX and len(carried) > 1:
            middle = len(carried) // 2
            return [*self._parts(queue, carried[:middle]), *self._parts(queue, carried[middle:])]
        reply_to = self._connected().reply_to
        return [Part(carried, outgoing_envelope(queue, body, self._mac_key, commands=len(carried), reply_to=reply_to))]

    def _go_ahead(self, line: Line, envelope: Envelope, parts: Sequence[Part]) -> bool:
        """Whether the worker may have it, whatever becomes of the publish. Not what cannot even be published."""
        worker, reply_to = self._routes.worker(line.queue), parts[0].message.reply_to
        if worker is None or reply_to is None or len(parts) > 1 or not line.may_go_ahead(envelope):
            return False
        if not amqp.can_publish(self._connected().channel):
            return False
        if not self._links.offer(worker, reply_to, ahead_of(parts[0].message, line.queue)):
            return False
        line.went_ahead(envelope)
        self.envelopes_ahead += 1
        return True

    async def _publish(self, line: Line, envelope: Envelope, parts: Sequence[Part]) -> None:
        are_confirmed = [await self._publish_part(line.queue, part) for part in parts]
        if are_confirmed[-1]:
            line.confirmed(envelope, partial(self._leave, line, envelope))
        else:
            self._leave(line, envelope)

    async def _publish_part(self, queue: Partition, part: Part) -> bool:
        """Whether the broker has it."""
        try:
            await amqp.publish(self._connected().channel, part.message)
        except BusError as fault:
            log.warning("envelope.failed", queue=queue, commands=len(part.carried), fault=repr(fault))
            if isinstance(fault, Refused | Unroutable):
                self._routes.shun(queue)
            for sent in part.carried:
                self._send_otherwise(sent, queue, fault)
            return False
        self.envelopes += 1
        self._routes.trust(queue)
        fault_point(FaultPoint.GATEWAY_AFTER_CONFIRM)
        return True

    def _send_otherwise(self, sent: Sent, queue: Partition, fault: BusError) -> None:
        """What another partition's queue certainly did not take goes by its own."""
        own = self._own_queue(sent, queue)
        if own == queue or sent.outcome is not None or not isinstance(fault, Refused | Unroutable):
            self._failed(sent, fault)
        else:
            self._put(sent, own)

    def _leave(self, line: Line, unheard: Envelope) -> None:
        """Nobody is heard by this queue: it leads to no worker, and what others have in its line goes by their own."""
        line.lost(unheard)
        self._routes.forget(line.queue)
        for sent in line.take_all():
            self._put(sent, self._own_queue(sent, line.queue))

    def _own_queue(self, sent: Sent, queue: Partition) -> Partition:
        """That of the command's own partition; what no account routes stays where its sender put it."""
        account = _account_of(sent)
        return queue if account is None else partition_of(account, self._partitions)


def _account_of(sent: Sent) -> AccountId | None:
    return None if isinstance(sent.command, MixCreate) else routed_by(sent.command)
