"""ports.Consumer and ports.Publisher in memory: a broker with a queue for each partition, and a worker's connection."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from services.ledger_worker.broker.consumer import DeliverySink
from services.ledger_worker.ports import Delivery
from shared.broker.channels import NotPublished, PublishUnknown
from shared.domain.ids import Partition
from shared.messages import BatchEvent, EventMessage, Reply
from shared.messages.envelopes import ENVELOPE_KIND
from tests.twins.faults import Delay

PREFETCH_ENVELOPES = 32
FROZEN_POLL_S = 0.05


@dataclass(slots=True, eq=False)
class Message:
    """What a sender published."""

    body: bytes
    mac: str | None = None
    reply_to: str | None = None
    kind: str | None = ENVELOPE_KIND
    deliveries: int = 0


@dataclass(slots=True, eq=False)
class Channel:
    """One consumer of one queue. `finished`: the last tag that its worker acknowledges."""

    connection: "MemoryConnection"
    partition: Partition
    tags: "count[int]" = field(default_factory=lambda: count(1))
    unacknowledged: deque[tuple[int, Message]] = field(default_factory=deque[tuple[int, Message]])
    finished: int = 0
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
class MemoryBroker:
    """The server: queues, replies, dead letters and events. Deliveries of a queue keep its order.

    `on_reply` is called with each reply, `on_acknowledged` with each message that leaves its queue.
    """

    partitions: int
    on_reply: Callable[[str, Reply], None] = lambda _to, _reply: None
    on_acknowledged: Callable[[Partition, Message], None] = lambda _partition, _message: None
    queues: dict[Partition, Queue] = field(default_factory=dict[Partition, Queue])
    dead_letters: list[tuple[Partition, bytes, str]] = field(default_factory=list[tuple[Partition, bytes, str]])
    events: list[EventMessage] = field(default_factory=list[EventMessage])
    connections: list["MemoryConnection"] = field(default_factory=list["MemoryConnection"])

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
            channel.connection.channel_closed(channel)

    def publish(self, partition: Partition, message: Message) -> None:
        """Confirmed at once."""
        self.queues[partition].ready.append(message)
        self._deliver(partition)

    def consume(self, channel: Channel) -> bool:
        """Registers a consumer; False when there is no such queue."""
        queue = self.queues.get(channel.partition)
        if queue is None:
            return False
        queue.consumers.append(channel)
        self._deliver(channel.partition)
        return True

    def acknowledge(self, channel: Channel) -> None:
        """Drops all deliveries up to `finished`, if the channel is still open."""
        if not channel.is_open:
            return
        while channel.unacknowledged and channel.unacknowledged[0][0] <= channel.finished:
            self.on_acknowledged(channel.partition, channel.unacknowledged.popleft()[1])
        self._deliver(channel.partition)

    def close(self, channel: Channel) -> None:
        """What is not acknowledged goes back to the head, in order; the next consumer becomes active."""
        if not channel.is_open:
            return
        channel.is_open = False
        queue = self.queues[channel.partition]
        queue.consumers.remove(channel)
        queue.ready.extendleft(message for _, message in reversed(channel.unacknowledged))
        self._deliver(channel.partition)

    @property
    def is_empty(self) -> bool:
        """True when everything was acknowledged."""
        return all(queue.depth == 0 for queue in self.queues.values())

    def _deliver(self, partition: Partition) -> None:
        """Sends what is ready to the active consumer."""
        queue = self.queues[partition]
        while queue.consumers and queue.ready and len(queue.consumers[0].unacknowledged) < PREFETCH_ENVELOPES:
            active, message = queue.consumers[0], queue.ready.popleft()
            tag = next(active.tags)
            active.unacknowledged.append((tag, message))
            is_redelivered = message.deliveries > 0
            message.deliveries += 1
            active.connection.receive(
                Delivery(
                    partition, message.body, message.mac, message.reply_to, is_redelivered, active, tag, message.kind
                )
            )


class MemoryConnection:
    """One worker's connection. Everything takes `delay()` seconds; deliveries arrive in the order of their sending."""

    def __init__(
        self,
        broker: MemoryBroker,
        sink: DeliverySink,
        *,
        delay: Delay = lambda: 0.0,
        is_nudge_lost: Callable[[], bool] = lambda: False,
    ) -> None:
        self.broker = broker
        self.is_dead = False
        self.is_frozen = False
        self.is_down = False
        self.dead_letters_refused = 0
        self.dead_letters_unconfirmed = 0  # so many are published without a confirm
        self.close_late_s: float | None = None  # the broker closes a channel so much later than `close` has returned
        self._sink = sink
        self._delay = delay
        self._is_nudge_lost = is_nudge_lost
        self._wanted: set[Partition] = set()
        self._channels: dict[Partition, Channel] = {}
        self._arriving: deque[Delivery] = deque()
        broker.connections.append(self)

    # ports.Consumer and ports.Publisher.

    def is_ready(self) -> bool:
        return not self.is_down

    async def open(self, partition: Partition) -> None:
        self._wanted.add(partition)
        self._later(lambda: self._consume(partition))

    async def close(self, partition: Partition) -> None:
        self._wanted.discard(partition)
        channel = self._channels.pop(partition, None)
        if channel is not None and not self.is_dead:
            self.broker.acknowledge(channel)
        await asyncio.sleep(self._delay())
        if channel is not None and self.close_late_s is None:
            self.broker.close(channel)
        elif channel is not None:
            self._later(lambda: self.broker.close(channel), at_least_s=self.close_late_s or 0.0)

    def acknowledge(self, delivery: Delivery) -> None:
        channel = self._channels.get(delivery.partition)
        if channel is not None and channel is delivery.channel:
            channel.finished = delivery.tag
            self._later(lambda: self.broker.acknowledge(channel))

    async def reply(self, reply_to: str, reply: Reply) -> None:
        if not self.is_dead:
            body = reply.model_dump_json(exclude_defaults=True)
            self.broker.on_reply(reply_to, Reply.model_validate_json(body))

    async def nudge(self, source: Partition, destination: Partition, batch: int) -> None:
        if self.is_dead or self._is_nudge_lost():
            return
        for connection in self.broker.connections:
            if connection.is_consuming(destination):
                connection._later(partial(connection._sink.nudge, source, destination, batch))

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        await asyncio.sleep(self._delay())
        if self.dead_letters_refused > 0:
            self.dead_letters_refused -= 1
            raise NotPublished("injected")
        if not self.is_dead:
            self.broker.dead_letters.append((delivery.partition, delivery.body, reason))
        if self.dead_letters_unconfirmed > 0:
            self.dead_letters_unconfirmed -= 1
            raise PublishUnknown("injected")

    def announce(self, partition: Partition, event: BatchEvent) -> None:
        if not self.is_dead:
            self.broker.events.append(EventMessage(partition=int(partition), batches=(event,)))

    def is_consuming(self, partition: Partition) -> bool:
        return partition in self._channels

    # Seams.

    def lose_channel(self, partition: Partition) -> None:
        """The channel breaks: the broker knows at once, the worker a little later."""
        channel = self._channels.get(partition)
        if channel is not None:
            self.broker.close(channel)
            self._later(lambda: self.channel_closed(channel))

    def kill(self) -> None:
        """The worker's process has died."""
        self.is_dead = True
        self.broker.connections.remove(self)
        for queue in self.broker.queues.values():
            for channel in [channel for channel in queue.consumers if channel.connection is self]:
                self.broker.close(channel)

    # What the broker calls.

    def channel_closed(self, channel: Channel) -> None:
        """The client finds that its channel is closed, and opens another one as long as it is wanted."""
        if self._channels.get(channel.partition) is channel:
            del self._channels[channel.partition]
            self._sink.channel_lost(channel.partition)
        if channel.partition in self._wanted:
            self._later(lambda: self._consume(channel.partition))

    def receive(self, delivery: Delivery) -> None:
        """A delivery is on its way."""
        self._arriving.append(delivery)
        self._later(self._deliver_next)

    def _deliver_next(self) -> None:
        delivery = self._arriving.popleft()
        if self._channels.get(delivery.partition) is delivery.channel:
            self._sink.deliver(delivery)

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
