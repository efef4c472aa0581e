"""A broker to test against, with what a test needs around it: one in memory, or a virtual host of a real one."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from pamqp.common import Arguments

from services.ledger_worker.broker.consumer import RabbitConsumer
from services.ledger_worker.broker.publisher import RabbitPublisher
from services.ledger_worker.ports import Delivery
from shared.broker.dead_letters import REASON_HEADER
from shared.broker.declare import declare_topology
from shared.domain.ids import Partition
from shared.messages import EventMessage, Reply, topology
from shared.messages.envelopes import ENVELOPE_KIND, MAC_HEADER
from tests.contract.conditions import eventually
from tests.twins.broker import MemoryBroker, MemoryConnection, Message

PARTITIONS = 4
ADDRESS = "replies-of-the-test"


@dataclass(slots=True)
class ConnectedWorker:
    """One worker's connections, and what they brought."""

    consumer: RabbitConsumer | MemoryConnection = field(init=False)
    publisher: RabbitPublisher | MemoryConnection = field(init=False)
    deliveries: list[Delivery] = field(default_factory=list[Delivery])
    nudges: list[tuple[Partition, Partition, int]] = field(default_factory=list[tuple[Partition, Partition, int]])
    channels_lost: list[Partition] = field(default_factory=list[Partition])

    # DeliverySink.

    def deliver(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)

    def nudge(self, source: Partition, destination: Partition, batch: int) -> None:
        self.nudges.append((source, destination, batch))

    def channel_lost(self, partition: Partition) -> None:
        self.channels_lost.append(partition)

    # What tests ask.

    @property
    def bodies(self) -> list[str]:
        """What was delivered, as text."""
        return [delivery.body.decode() for delivery in self.deliveries]

    async def receives(self, *bodies: str) -> None:
        """Waits until exactly these were delivered, in this order."""
        await eventually(lambda: len(self.deliveries) >= len(bodies))
        assert self.bodies == list(bodies)


class MemoryServer:
    """The twin."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.broker = MemoryBroker(PARTITIONS, self._take)

    def _take(self, address: str, reply: Reply) -> None:
        assert address == ADDRESS
        self.replies.append(reply)

    async def connect(self, _: str) -> ConnectedWorker:
        worker = ConnectedWorker()
        worker.consumer = worker.publisher = MemoryConnection(self.broker, worker)
        return worker

    async def publish(self, partition: int, *bodies: str, mac: str | None = None) -> None:
        for body in bodies:
            self.broker.publish(Partition(partition), Message(body.encode(), mac, ADDRESS))

    @property
    def events(self) -> list[EventMessage]:
        return self.broker.events

    async def dead_letters(self) -> list[tuple[bytes, str]]:
        return [(body, reason) for _, body, reason in self.broker.dead_letters]

    async def break_channel(self, worker: ConnectedWorker, partition: int) -> None:
        assert isinstance(worker.consumer, MemoryConnection)
        worker.consumer.lose_channel(Partition(partition))

    async def delete_queue(self, partition: int) -> None:
        self.broker.delete(Partition(partition))

    async def declare(self) -> None:
        for partition in range(PARTITIONS):
            self.broker.declare(Partition(partition))

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass


class RabbitServer:
    """A virtual host with the topology of four partitions."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._running: list[asyncio.Task[None]] = []
        self._channel: AbstractChannel
        self.replies: list[Reply] = []
        self.events: list[EventMessage] = []

    async def open(self) -> None:
        self._connection = await aio_pika.connect(self.url)
        self._channel = await self._connection.channel()
        replies = await self._channel.declare_queue(ADDRESS, exclusive=True)
        await replies.consume(_into(lambda body: self.replies.append(Reply.model_validate_json(body))), no_ack=True)
        events = await self._channel.declare_queue(exclusive=True)
        for partition in range(PARTITIONS):
            await events.bind(topology.EVENTS, topology.PARTITION_KEYS[partition])
        await events.consume(
            _into(lambda body: self.events.append(EventMessage.model_validate_json(body))), no_ack=True
        )

    async def connect(self, owner: str) -> ConnectedWorker:
        worker = ConnectedWorker()
        consumer, publisher = self.begin_consuming(owner, worker)
        self.begin_publishing(publisher)
        await eventually(lambda: consumer.is_ready() and publisher.is_ready())
        return worker

    def begin_consuming(self, owner: str, worker: ConnectedWorker) -> tuple[RabbitConsumer, RabbitPublisher]:
        """Starts one of a worker's two connections. The other one has only been made."""
        publisher = worker.publisher = RabbitPublisher(self.url, owner)
        consumer = worker.consumer = RabbitConsumer(self.url, owner, worker, publisher)
        self._running.append(asyncio.get_running_loop().create_task(consumer.run()))
        return consumer, publisher

    def begin_publishing(self, publisher: RabbitPublisher) -> None:
        """Starts the other one."""
        self._running.append(asyncio.get_running_loop().create_task(publisher.run()))

    async def publish(self, partition: int, *bodies: str, mac: str | None = None) -> None:
        exchange = await self._channel.get_exchange(topology.COMMANDS)
        for body in bodies:
            message = aio_pika.Message(
                body.encode(),
                type=ENVELOPE_KIND,
                reply_to=ADDRESS,
                headers={MAC_HEADER: mac} if mac else None,
            )
            await exchange.publish(message, topology.PARTITION_KEYS[partition])

    async def dead_letters(self) -> list[tuple[bytes, str]]:
        queue = await self._channel.get_queue(topology.DEAD_LETTERS_QUEUE)
        found: list[tuple[bytes, str]] = []
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            found.append((message.body, str(message.headers[REASON_HEADER])))
        return found

    async def replace_queue(self, partition: int, *, length_max: int) -> None:
        """The same queue, but for the number of messages that it takes."""
        name = topology.partition_queue(Partition(partition))
        await self._channel.queue_delete(name)
        arguments: Arguments = {**topology.PARTITION_QUEUE_ARGUMENTS, "x-max-length": length_max}
        queue = await self._channel.declare_queue(name, durable=True, arguments=arguments)
        await queue.bind(topology.COMMANDS, topology.PARTITION_KEYS[partition])

    async def break_channel(self, worker: ConnectedWorker, partition: int) -> None:
        """The broker closes a channel on which something is published to an exchange that there is not."""
        assert isinstance(worker.consumer, RabbitConsumer)
        channel = worker.consumer._channels[Partition(partition)].channel
        await channel.basic_publish(b"", exchange="nowhere", routing_key="x", wait=False)

    async def delete_queue(self, partition: int) -> None:
        await self._channel.queue_delete(topology.partition_queue(Partition(partition)))

    async def declare(self) -> None:
        await declare_topology(self.url, partitions=PARTITIONS)

    async def close(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._connection.close()


def _into(take: Callable[[bytes], None]) -> Callable[[AbstractIncomingMessage], Coroutine[Any, Any, None]]:
    async def receive(message: AbstractIncomingMessage) -> None:
        take(message.body)

    return receive


Server = MemoryServer | RabbitServer
