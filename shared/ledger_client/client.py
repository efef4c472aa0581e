"""The ledger client, with which gateway, deposit poller and distributor send commands and receive the outcomes.

A command ends with its result; with NotPublished, QueueFull or Unroutable, and then certainly had no effect; or with
PublishUnknown: the journal may have its outcome, now or later, unless the sender cancels it (`operation.cancel`).
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

import structlog

from shared.broker.channels import (
    BROKER_FAULTS,
    Channel,
    Connection,
    NotPublished,
    OutgoingMessage,
    PublishFailed,
    PublishUnknown,
    QueueFull,
    consume_exclusive_queue,
    open_channel,
    ping,
    temporary_channel,
    waiting_messages,
)
from shared.broker.connection import ManagedConnection
from shared.broker.declare import MIX_ORDER_QUEUE, BoundQueue, commands_of, declare_exchange, publish_to
from shared.domain.ids import Partition, subkey
from shared.ledger_client.pending import CommandResult, PendingCommand, PendingCommands, wait_in
from shared.ledger_client.send_queue import SendQueue
from shared.messages import Command, MixCreate, MixMessage, Reply, topology
from shared.messages.base import ENVELOPE_BYTES_MAX
from shared.messages.envelopes import ENVELOPE_KIND, MAC_HEADER, envelope_body, sign
from shared.runtime.fault_points import FaultPoint, fault_point

log = structlog.get_logger()

PENDING_MAX: Final = 20_000
# How long a sender whose time is up still waits to hear whether the broker has the command: until then nobody may be
# told that it is under way. Longer than one publish, since it may have to wait for an envelope before it.
PUBLISHED_S_MAX: Final = 5.0
MIX_KIND: Final = "mix.v1"
BACKLOGS_S_MAX: Final = 2.0


class LedgerClient:
    """Publishes over one connection and receives replies over another, since a blocked one would delay replies."""

    def __init__(self, amqp_url: str, *, partitions: int, secret: str, name: str) -> None:
        self.partitions = partitions
        self.envelopes_confirmed = 0
        self._mac_key = subkey(secret, "envelope")
        self._pending = PendingCommands()
        self._queues = [SendQueue(Partition(partition)) for partition in range(partitions)]
        self._orders: asyncio.Queue[PendingCommand] = asyncio.Queue()
        self._channel: Channel | None = None
        self._reply_to: str | None = None
        self._connected = asyncio.Event()
        self._publishing = ManagedConnection(
            amqp_url, name=f"{name}.commands", opened=self._open_publishing, lost=self._lose_publishing
        )
        self._replying = ManagedConnection(
            amqp_url, name=f"{name}.replies", opened=self._open_replying, lost=self._lose_replying
        )

    async def run(self) -> None:
        """Keeps the connections and sends until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publishing.run(), name="commands connection")
            group.create_task(self._replying.run(), name="replies connection")
            group.create_task(self._pending.run(), name="outcomes")
            group.create_task(self._send_orders(), name="orders")
            for queue in self._queues:
                group.create_task(self._send_envelopes(queue), name=f"envelopes of partition {queue.partition}")

    async def connected(self, timeout_s: float) -> bool:
        """Waits until commands can be sent; False when the time is up before."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._connected.wait(), timeout_s)
        return self._connected.is_set()

    def is_ready(self) -> bool:
        """True when both connections are open and the broker takes publishes."""
        return self._publishing.is_writable() and self._replying.current is not None and self._reply_to is not None

    async def ping_broker(self) -> None:
        """Returns once the broker has confirmed a publish and still has the reply queue.

        Raises NotPublished, after some seconds if there is no answer.
        """
        publishing, replying = self._publishing.current, self._replying.current
        if not self.is_ready() or publishing is None or replying is None:
            raise NotPublished("the broker is not connected or blocks publishers")
        try:
            await ping(publishing)
            await ping(replying, queue=self._reply_to)
        except BROKER_FAULTS as fault:
            raise NotPublished(repr(fault)) from fault

    async def backlogs(self) -> dict[Partition, int]:
        """How many messages wait in each partition's queue; those that cannot be asked for now are left out."""
        found: dict[Partition, int] = {}
        if (connection := self._replying.current) is not None:
            with contextlib.suppress(*BROKER_FAULTS):
                async with asyncio.timeout(BACKLOGS_S_MAX):
                    for partition in map(Partition, range(self.partitions)):
                        found[partition] = await waiting_messages(connection, topology.partition_queue(partition))
        return found

    @property
    def outcomes_unmatched(self) -> int:
        """How many outcomes arrived that nobody waited for."""
        return self._pending.outcomes_unmatched

    @property
    def commands_pending(self) -> int:
        """How many commands the client keeps: those that have not left, and those that somebody waits for."""
        return self._pending.count

    def is_pending(self, command: Command | MixCreate) -> bool:
        """True if `send` would join the same command, and so send nothing."""
        return self._pending.find(command) is not None

    def send(self, command: Command, partition: Partition) -> PendingCommand:
        """Queues the command for its partition. Raises NotPublished (no broker) or QueueFull (too many pending).

        The same command, by id and fingerprint, joins the first one while that is undecided. Follow with `result`.
        """
        pending, is_new = self._join(command)
        if is_new:
            self._queues[partition].add(pending)
        return pending

    def send_order(self, order: MixCreate) -> PendingCommand:
        """As `send`, for an order for the mixer: the deposit poller decides it and replies as a worker does."""
        pending, is_new = self._join(order)
        if is_new:
            self._orders.put_nowait(pending)
        return pending

    async def result(self, pending: PendingCommand, timeout_s: float) -> CommandResult | None:
        """Waits at most `timeout_s` for the outcome and for the credits in other partitions.

        None when the time is up and the broker has the command; its confirm is waited for up to PUBLISHED_S_MAX longer.
        Raises NotPublished, QueueFull or Unroutable (no effect), or PublishUnknown.
        """
        try:
            if not pending.is_ended:
                await wait_in(pending.waiters, timeout_s)
            if pending.outcome is None and not pending.has_left:
                await wait_in(pending.publishing, PUBLISHED_S_MAX)
        finally:
            if not pending.waiters and not pending.publishing:
                self._pending.abandon(pending)
        if pending.outcome is not None:
            return CommandResult(pending.outcome, pending.settled)
        if pending.fault is not None:
            raise pending.fault.with_traceback(None)  # several may raise the same one
        if not pending.has_left:
            raise PublishUnknown("the broker has not confirmed it yet")
        return None

    async def call(self, command: Command, partition: Partition, timeout_s: float) -> CommandResult | None:
        """`send` and `result` in one."""
        return await self.result(self.send(command, partition), timeout_s)

    def _join(self, command: Command | MixCreate) -> tuple[PendingCommand, bool]:
        """The pending command, and whether it must still be sent. Raises NotPublished or QueueFull."""
        known = self._pending.find(command)
        if known is not None:
            return known, False
        if self._pending.count >= PENDING_MAX:
            raise QueueFull("too many commands are pending")
        if self._channel is None or self._reply_to is None:
            raise NotPublished("the broker is not connected")
        pending = PendingCommand(command)
        self._pending.add(pending)
        return pending, True

    async def _send_envelopes(self, queue: SendQueue) -> None:
        """One publish at a time, each confirmed before the next, so that the queue keeps their order."""
        while True:
            await queue.ready.wait()
            envelope = queue.take()
            fault_point(FaultPoint.GATEWAY_BEFORE_PUBLISH)
            if await self._publish_commands(queue.partition, envelope.commands):
                queue.confirmed(envelope)
            else:
                queue.end(envelope)

    async def _publish_commands(self, partition: Partition, commands: Sequence[PendingCommand]) -> bool:
        """Publishes commands as one message, or as several if that is too large. True if the last is confirmed."""
        body = envelope_body([pending.command for pending in commands if not isinstance(pending.command, MixCreate)])
        if len(body) > ENVELOPE_BYTES_MAX and len(commands) > 1:
            middle = len(commands) // 2
            await self._publish_commands(partition, commands[:middle])
            return await self._publish_commands(partition, commands[middle:])
        headers = {"p": int(partition), "n": len(commands)}
        is_confirmed = await self._publish(commands_of(partition), ENVELOPE_KIND, body, headers, commands)
        self.envelopes_confirmed += is_confirmed
        return is_confirmed

    async def _send_orders(self) -> None:
        while True:
            pending = await self._orders.get()
            body = MixMessage.model_validate({"order": pending.command}).model_dump_json().encode()
            await self._publish(MIX_ORDER_QUEUE, MIX_KIND, body, {}, [pending])

    async def _publish(
        self,
        queue: BoundQueue,
        kind: str,
        body: bytes,
        headers: dict[str, int],
        commands: Sequence[PendingCommand],
    ) -> bool:
        """Publishes one signed message. If the broker does not confirm it, its commands fail with the fault."""
        signed = {MAC_HEADER: sign(self._mac_key, body), **headers}
        message = OutgoingMessage(queue.exchange, queue.key, body, kind, reply_to=self._reply_to, headers=signed)
        try:
            await publish_to(self._channel, queue, message)
        except PublishFailed as fault:
            log.warning("publish.failed", queue=queue.queue, commands=len(commands), fault=repr(fault))
            for pending in commands:
                self._fail(pending, fault)
            return False
        for pending in commands:
            self._pending.end_publish(pending)
        fault_point(FaultPoint.GATEWAY_AFTER_CONFIRM)
        return True

    def _fail(self, pending: PendingCommand, fault: PublishFailed) -> None:
        pending.fault = fault
        pending.wake()
        self._pending.end_publish(pending)
        if pending.outcome is None:  # otherwise replies may still say that its credits settled
            self._pending.forget(pending)

    def _receive(self, body: bytes) -> None:
        """Takes in a reply. The next envelopes may leave before the waiters are woken, which keeps the worker busy."""
        reply = Reply.model_validate_json(body)
        outcomes = {(outcome.id, outcome.fingerprint) for outcome in reply.outcomes}
        for queue in self._queues:
            queue.answered(outcomes)
        self._pending.receive(reply)

    async def _open_publishing(self, connection: Connection) -> Sequence[Channel]:
        # A message to a missing exchange closes its channel.
        async with temporary_channel(connection) as declaring:
            for exchange in (topology.COMMANDS, topology.MIXER):
                await declare_exchange(declaring, exchange)
        self._channel = await open_channel(connection, confirmed=True)
        self._note_connected()
        return [self._channel]

    def _lose_publishing(self) -> None:
        self._channel = None
        self._connected.clear()

    async def _open_replying(self, connection: Connection) -> Sequence[Channel]:
        channel, self._reply_to = await consume_exclusive_queue(connection, self._receive)
        self._note_connected()
        return [channel]

    def _lose_replying(self) -> None:
        self._reply_to = None
        self._connected.clear()

    def _note_connected(self) -> None:
        if self._channel is not None and self._reply_to is not None:
            self._connected.set()
