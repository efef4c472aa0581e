"""ports.Bus in memory: a broker with a queue for each partition, single active consumers, and a worker's way to it."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from services.ledger_worker.ports import Inbound
from shared.amqp import NotSent, Refused
from shared.envelopes import ENVELOPE_KIND, envelope_body, envelope_mac
from shared.ids import Partition, subkey
from shared.messages import BatchEvent, Command, EventMessage, Reply
from tests.builders import SECRET

PREFETCH_ENVELOPES = 32
FROZEN_POLL_S = 0.05
Delay = Callable[[], float]


@dataclass(slots=True, eq=False)
class Message:
    """What a sender published."""

    body: bytes
    mac: str | None = None
    reply_to: str | None = None
    kind: str | None = ENVELOPE_KIND
    message_id: str | None = None
    deliveries: int = 0


@dataclass(slots=True, eq=False)
class Channel:
    """One consumer of one queue, as the broker sees it."""

    bus: "MemoryBus"
    partition: Partition
    tags: "count[int]" = field(default_factory=lambda: count(1))
    unacknowledged: deque[tuple[int, Message]] = field(default_factory=deque[tuple[int, Message]])
    done: set[int] = field(default_factory=set[int])
    is_open: bool = True


@dataclass(slots=True)
class Queue:
    """A partition's queue: the first consumer that registered is the active one."""

    ready: deque[Message] = field(default_factory=deque[Message])
    consumers: list[Channel] = field(default_factory=list[Channel])

    @property
    def depth(self) -> int:
        """Messages that are not acknowledged."""
        return len(self.ready) + sum(len(channel.unacknowledged) for channel in self.consumers)


@dataclass(slots=True)
class Broker:
    """Queues, replies, parked copies and events. `hear` is called with each reply as it comes."""

    partitions: int
    queues: dict[Partition, Queue] = field(default_factory=dict[Partition, Queue])
    hear: Callable[[str, Reply], None] = lambda _to, _reply: None
    parked: list[tuple[Partition, bytes, str]] = field(default_factory=list[tuple[Partition, bytes, str]])
    events: list[EventMessage] = field(default_factory=list[EventMessage])
    buses: list["MemoryBus"] = field(default_factory=list["MemoryBus"])
    # Partitions whose queue takes nothing more.
    full: set[Partition] = field(default_factory=set[Partition])

    def __post_init__(self) -> None:
        for partition in range(self.partitions):
            self.declare(Partition(partition))

    def declare(self, partition: Partition) -> None:
        """Makes the partition's queue unless it is there."""
        self.queues.setdefault(partition, Queue())

    def delete(self, partition: Partition) -> None:
        """Takes the queue away; the broker cancels its consumers."""
        for channel in self.queues.pop(partition).consumers:
            channel.is_open = False
            channel.bus.channel_gone(channel)

    def publish(self, partition: Partition, message: Message) -> None:
        """Confirmed at once."""
        self.queues[partition].ready.append(message)
        self.pump(partition)

    def consume(self, channel: Channel) -> bool:
        """Registers a consumer; False when there is no such queue."""
        queue = self.queues.get(channel.partition)
        if queue is None:
            return False
        queue.consumers.append(channel)
        self.pump(channel.partition)
        return True

    def acknowledge(self, channel: Channel) -> None:
        """All that is done before anything that is not, on a channel that the broker still knows."""
        if channel.is_open:
            while channel.unacknowledged and channel.unacknowledged[0][0] in channel.done:
                channel.unacknowledged.popleft()
            self.pump(channel.partition)

    def close(self, channel: Channel) -> None:
        """What is not acknowledged goes back to the head, in order; the next consumer becomes active."""
        if not channel.is_open:
            return
        channel.is_open = False
        queue = self.queues[channel.partition]
        queue.consumers.remove(channel)
        queue.ready.extendleft(message for _, message in reversed(channel.unacknowledged))
        self.pump(channel.partition)

    def pump(self, partition: Partition) -> None:
        """Sends what is ready to the active consumer."""
        queue = self.queues[partition]
        if not queue.consumers:
            return
        active = queue.consumers[0]
        while queue.ready and len(active.unacknowledged) < PREFETCH_ENVELOPES:
            message = queue.ready.popleft()
            tag = next(active.tags)
            active.unacknowledged.append((tag, message))
            inbound = Inbound(
                partition,
                message.body,
                message.mac,
                message.reply_to,
                message.deliveries > 0,
                active,
                tag,
                message.kind,
                message.message_id,
            )
            message.deliveries += 1
            active.bus.receive_soon(inbound)

    @property
    def is_empty(self) -> bool:
        """Whether everything was acknowledged."""
        return all(queue.depth == 0 for queue in self.queues.values())


class MemoryBus:
    """One worker's connections. Everything takes `delay()` seconds; what is on its way keeps its order."""

    def __init__(
        self,
        broker: Broker,
        *,
        deliver: Callable[[Inbound], None],
        nudged: Callable[[Partition], None],
        lost: Callable[[Partition], None],
        delay: Delay = lambda: 0.0,
        nudge_is_lost: Callable[[], bool] = lambda: False,
    ) -> None:
        self.broker = broker
        self.is_dead = False
        self.is_frozen = False
        self.is_deaf = False
        self.parks_refused = 0
        self._deliver = deliver
        self._nudged = nudged
        self._lost = lost
        self._delay = delay
        self._nudge_is_lost = nudge_is_lost
        self._wanted: set[Partition] = set()
        self._channels: dict[Partition, Channel] = {}
        self._arriving: deque[Inbound] = deque()
        broker.buses.append(self)

    def is_ready(self) -> bool:
        return not self.is_deaf

    def consumes(self, partition: Partition) -> bool:
        return partition in self._channels

    async def open(self, partition: Partition) -> None:
        self._wanted.add(partition)
        self._later(lambda: self._consume(partition))

    async def close(self, partition: Partition) -> None:
        self._wanted.discard(partition)
        channel = self._channels.pop(partition, None)
        await asyncio.sleep(self._delay())
        if channel is not None:
            self.broker.close(channel)

    def acknowledge(self, done: Inbound) -> None:
        channel = self._channels.get(done.partition)
        if channel is not None and channel is done.channel and not self.is_dead:
            channel.done.add(done.tag)
            self.broker.acknowledge(channel)

    async def reply(self, reply_to: str, reply: Reply) -> None:
        if not self.is_dead:
            body = reply.model_dump_json(exclude_defaults=True)
            self.broker.hear(reply_to, Reply.model_validate_json(body))

    async def nudge(self, source: Partition, destination: Partition) -> None:
        if self.is_dead or self._nudge_is_lost():
            return
        for bus in self.broker.buses:
            if destination in bus._channels:
                bus._later(lambda bus=bus: bus._nudged(destination))

    async def send_on(self, partition: Partition, reply_to: str | None, commands: Sequence[Command]) -> None:
        await asyncio.sleep(self._delay())
        if partition in self.broker.full:
            raise Refused(str(partition))
        if not self.is_dead:
            body = envelope_body(commands)
            self.broker.publish(partition, Message(body, envelope_mac(subkey(SECRET, "envelope"), body), reply_to))

    async def park(self, inbound: Inbound, reason: str) -> None:
        await asyncio.sleep(self._delay())
        if self.parks_refused > 0:
            self.parks_refused -= 1
            raise NotSent("injected")
        if not self.is_dead:
            self.broker.parked.append((inbound.partition, inbound.body, reason))

    def announce(self, partition: Partition, event: BatchEvent) -> None:
        if not self.is_dead:
            self.broker.events.append(EventMessage(partition=int(partition), batches=(event,)))

    # Seams, and what the broker calls.

    def lose_channel(self, partition: Partition) -> None:
        """The channel breaks: the broker knows at once, the worker a little later."""
        channel = self._channels.get(partition)
        if channel is not None:
            self.broker.close(channel)
            self._later(lambda: self.channel_gone(channel))

    def kill(self) -> None:
        """The worker's process has died."""
        self.is_dead = True
        self.broker.buses.remove(self)
        for queue in self.broker.queues.values():
            for channel in [channel for channel in queue.consumers if channel.bus is self]:
                self.broker.close(channel)

    def channel_gone(self, channel: Channel) -> None:
        """The client finds that its channel is closed, and opens another one as long as it is wanted."""
        if self._channels.get(channel.partition) is channel:
            del self._channels[channel.partition]
            self._lost(channel.partition)
        if channel.partition in self._wanted:
            self._later(lambda: self._consume(channel.partition))

    def receive_soon(self, inbound: Inbound) -> None:
        """A delivery is on its way; those of one worker arrive in the order of their sending."""
        self._arriving.append(inbound)
        self._later(self._receive)

    def receive_ahead(self, partition: Partition, message: Message) -> None:
        """An envelope has come straight from its sender, whatever the broker delivers."""
        inbound = Inbound(
            partition,
            message.body,
            message.mac,
            message.reply_to,
            redelivered=False,
            channel=None,
            tag=0,
            kind=message.kind,
            message_id=message.message_id,
        )
        self._later(lambda: self._deliver(inbound))

    def _receive(self) -> None:
        inbound = self._arriving.popleft()
        if self._channels.get(inbound.partition) is inbound.channel:
            self._deliver(inbound)

    def _consume(self, partition: Partition) -> None:
        if partition not in self._wanted or partition in self._channels:
            return
        channel = Channel(self, partition)
        self._channels[partition] = channel
        if not self.broker.consume(channel):
            del self._channels[partition]
            self._later(lambda: self._consume(partition), at_least_s=0.2)

    def _later(self, act: Callable[[], None], at_least_s: float = 0.0) -> None:
        def unless_dead() -> None:
            if self.is_frozen and not self.is_dead:
                asyncio.get_running_loop().call_later(FROZEN_POLL_S, unless_dead)
            elif not self.is_dead:
                act()

        asyncio.get_running_loop().call_later(at_least_s + self._delay(), unless_dead)
