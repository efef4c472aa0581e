"""Where a bus lives: a broker in memory, or a virtual host of a real one, with what a test needs around it."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import DeliveryError
from pamqp.common import Arguments

from services.ledger_worker.bus import RabbitBus
from services.ledger_worker.ports import Inbound
from services.ledger_worker.senders import Senders
from shared import migrate, topology
from shared.envelopes import ENVELOPE_KIND, MAC_HEADER
from shared.ids import Partition
from shared.messages import EventMessage, Reply
from tests.builders import SECRET
from tests.contract.conditions import eventually
from tests.twins.bus import Broker, MemoryBus, Message

PARTITIONS = 4
ADDRESS = "replies-of-the-test"
MESSAGES_MAX = 100


@dataclass(slots=True)
class Seat:
    """One worker's bus, and what it was told."""

    bus: RabbitBus | MemoryBus = field(init=False)
    delivered: list[Inbound] = field(default_factory=list[Inbound])
    nudged: list[Partition] = field(default_factory=list[Partition])
    lost: list[Partition] = field(default_factory=list[Partition])

    @property
    def bodies(self) -> list[str]:
        """What was delivered, as text."""
        return [inbound.body.decode() for inbound in self.delivered]

    async def receives(self, *bodies: str) -> None:
        """Waits until exactly these were delivered, in this order."""
        await eventually(lambda: len(self.delivered) >= len(bodies))
        assert self.bodies == list(bodies)


class MemoryRoom:
    """The twin's."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.broker = Broker(PARTITIONS, hear=self._hear)

    def _hear(self, address: str, reply: Reply) -> None:
        assert address == ADDRESS
        self.replies.append(reply)

    async def seat(self, _: str) -> Seat:
        seat = Seat()
        seat.bus = MemoryBus(
            self.broker, deliver=seat.delivered.append, nudged=seat.nudged.append, lost=seat.lost.append
        )
        return seat

    async def publish(self, partition: int, *bodies: str, mac: str | None = None) -> None:
        for body in bodies:
            self.broker.publish(Partition(partition), Message(body.encode(), mac, ADDRESS))

    @property
    def events(self) -> list[EventMessage]:
        return self.broker.events

    async def parked(self) -> list[tuple[bytes, str]]:
        return [(body, reason) for _, body, reason in self.broker.parked]

    async def fill(self, partition: int) -> None:
        self.broker.full.add(Partition(partition))

    async def break_channel(self, seat: Seat, partition: int) -> None:
        assert isinstance(seat.bus, MemoryBus)
        seat.bus.lose_channel(Partition(partition))

    async def delete_queue(self, partition: int) -> None:
        self.broker.delete(Partition(partition))

    async def declare(self) -> None:
        for partition in range(PARTITIONS):
            self.broker.declare(Partition(partition))

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass


class RabbitRoom:
    """A virtual host with the topology of four partitions."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._running: list[asyncio.Task[None]] = []
        self._channel: AbstractChannel
        self._address = ""
        self.replies: list[Reply] = []
        self.events: list[EventMessage] = []

    async def open(self) -> None:
        connection = await aio_pika.connect(self._url)
        self._connection = connection
        self._channel = await connection.channel()
        answers = await self._channel.declare_queue(ADDRESS, exclusive=True)
        await answers.consume(_into(lambda body: self.replies.append(Reply.model_validate_json(body))), no_ack=True)
        heard = await self._channel.declare_queue(exclusive=True)
        for partition in range(PARTITIONS):
            await heard.bind(topology.EVENTS, topology.partition_key(Partition(partition)))
        await heard.consume(_into(lambda body: self.events.append(EventMessage.model_validate_json(body))), no_ack=True)

    async def seat(self, owner: str) -> Seat:
        seat = Seat()
        bus = RabbitBus(
            self._url,
            owner,
            secret=SECRET,
            senders=Senders(b"nobody sends", seat.delivered.append),
            deliver=seat.delivered.append,
            nudged=seat.nudged.append,
            lost=seat.lost.append,
        )
        seat.bus = bus
        self._running.append(asyncio.get_running_loop().create_task(bus.run()))
        await eventually(bus.is_ready)
        return seat

    async def publish(self, partition: int, *bodies: str, mac: str | None = None) -> None:
        exchange = await self._channel.get_exchange(topology.COMMANDS)
        for body in bodies:
            message = aio_pika.Message(
                body.encode(),
                type=ENVELOPE_KIND,
                reply_to=ADDRESS,
                headers={MAC_HEADER: mac} if mac else None,
            )
            await exchange.publish(message, topology.partition_key(Partition(partition)))

    async def parked(self) -> list[tuple[bytes, str]]:
        queue = await self._channel.get_queue(topology.PARKING_QUEUE)
        found: list[tuple[bytes, str]] = []
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            found.append((message.body, str(message.headers["x-parked-reason"])))
        return found

    async def fill(self, partition: int) -> None:
        """The same queue, but for one message, with as many as it takes and nobody who consumes them."""
        place = Partition(partition)
        await self._channel.queue_delete(topology.partition_queue(place))
        arguments: Arguments = {**topology.PARTITION_QUEUE_ARGUMENTS, "x-max-length": 1}
        queue = await self._channel.declare_queue(topology.partition_queue(place), durable=True, arguments=arguments)
        await queue.bind(topology.COMMANDS, topology.partition_key(place))
        exchange = await self._channel.get_exchange(topology.COMMANDS)
        with contextlib.suppress(DeliveryError):
            for _ in range(MESSAGES_MAX):
                await exchange.publish(aio_pika.Message(b"full"), topology.partition_key(place))

    async def break_channel(self, seat: Seat, partition: int) -> None:
        """The broker closes a channel on which something is published to an exchange that there is not."""
        assert isinstance(seat.bus, RabbitBus)
        channel = seat.bus._channels[Partition(partition)]
        await channel.basic_publish(b"", exchange="nowhere", routing_key="x", wait=False)

    async def delete_queue(self, partition: int) -> None:
        await self._channel.queue_delete(topology.partition_queue(Partition(partition)))

    async def declare(self) -> None:
        await migrate.declare_topology(self._url, partitions=PARTITIONS)

    async def close(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._connection.close()


def _into(take: Callable[[bytes], None]) -> Callable[[AbstractIncomingMessage], Coroutine[Any, Any, None]]:
    async def receive(message: AbstractIncomingMessage) -> None:
        take(message.body)

    return receive


Room = MemoryRoom | RabbitRoom
