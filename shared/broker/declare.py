"""Declares exchanges, queues and bindings on a broker: `tellerline migrate`, and whoever finds one missing."""

import asyncio
from collections.abc import Mapping
from functools import cache
from typing import Final

import aio_pika
import structlog

from shared.broker.channels import (
    BROKER_FAULTS,
    Channel,
    Connection,
    OutgoingMessage,
    Unroutable,
    publish,
    temporary_channel,
)
from shared.broker.connection import connect_aio_pika
from shared.domain.ids import Partition
from shared.domain.values import value
from shared.messages import topology

log = structlog.get_logger()

# If the broker crashes within this time after a queue was declared, the queue can come back empty.
SETTLE_AFTER_DECLARE_S: Final = 2.0
# The consumer of a deleted queue must hear of it first: if the queue is there again by then, RabbitMQ (3.10) does not
# cancel the consumer, and delivers nothing to it either.
CANCELLED_S_MAX: Final = 1.0


async def declare_topology(amqp_url: str, *, partitions: int) -> None:
    """Declares what is missing. Binds new queues once they would survive a crash of the broker.

    Raises what is in BROKER_FAULTS.
    """
    connection = await connect_aio_pika(amqp_url, name="tellerline migrate")
    try:
        await _declare(connection, partitions)
    finally:
        await connection.close()


async def _declare(connection: aio_pika.abc.AbstractConnection, partitions: int) -> None:
    channel = await connection.channel()
    for exchange, kind in topology.EXCHANGES.items():
        await channel.declare_exchange(exchange, aio_pika.ExchangeType(kind), durable=True)
    all_wanted = (DEAD_LETTER_QUEUE, MIX_ORDER_QUEUE, *map(commands_of, map(Partition, range(partitions))))
    created = sum([not await _exists(connection, wanted.queue) for wanted in all_wanted])
    queues = [
        await channel.declare_queue(wanted.queue, durable=True, arguments=dict(wanted.arguments))
        for wanted in all_wanted
    ]
    if created:
        log.info("topology.created", queues=created)
        await asyncio.sleep(SETTLE_AFTER_DECLARE_S)
    for queue, wanted in zip(queues, all_wanted, strict=True):
        await queue.bind(wanted.exchange, wanted.key)


@value
class BoundQueue:
    """A durable queue with its arguments, the exchange that it is bound to, and the routing key."""

    queue: str
    arguments: Mapping[str, str | int | bool]
    exchange: str
    key: str


DEAD_LETTER_QUEUE: Final = BoundQueue(
    topology.DEAD_LETTERS_QUEUE,
    topology.DEAD_LETTERS_QUEUE_ARGUMENTS,
    topology.DEAD_LETTERS,
    topology.DEAD_LETTERS_KEY,
)
MIX_ORDER_QUEUE: Final = BoundQueue(topology.MIX_QUEUE, topology.MIX_QUEUE_ARGUMENTS, topology.MIXER, topology.MIX_KEY)


@cache
def commands_of(partition: Partition) -> BoundQueue:
    """The queue of a partition's commands."""
    queue, key = topology.partition_queue(partition), topology.PARTITION_KEYS[partition]
    return BoundQueue(queue, topology.PARTITION_QUEUE_ARGUMENTS, topology.COMMANDS, key)


async def declare_exchange(channel: Channel, exchange: str) -> None:
    """Declares one of our exchanges, if it is missing. Raises what is in BROKER_FAULTS."""
    await channel.exchange_declare(exchange, exchange_type=topology.EXCHANGES[exchange], durable=True)


async def declare_queue(channel: Channel, wanted: BoundQueue) -> None:
    """Declares exchange and queue, as far as one is missing, for whoever consumes it. Whoever publishes binds it.

    What a queue held is lost with it. Raises what is in BROKER_FAULTS; the channel is closed then.
    """
    await declare_exchange(channel, wanted.exchange)
    await channel.queue_declare(wanted.queue, durable=True, arguments=dict(wanted.arguments))


async def declare_bound(connection: Connection, wanted: BoundQueue) -> None:
    """Declares exchange and queue, and binds the queue once it would survive a crash of the broker.

    Before that no message gets into it, so none that was confirmed is lost. Raises what is in BROKER_FAULTS.
    """
    async with temporary_channel(connection) as channel:
        await declare_queue(channel, wanted)
    await asyncio.sleep(SETTLE_AFTER_DECLARE_S)
    async with temporary_channel(connection) as channel:
        await channel.queue_bind(wanted.queue, wanted.exchange, routing_key=wanted.key)


async def publish_to(channel: Channel | None, queue: BoundQueue, message: OutgoingMessage) -> None:
    """Publishes a message to its queue, with a confirm. If the queue or its binding is missing, declares it first.

    That takes CANCELLED_S_MAX and SETTLE_AFTER_DECLARE_S. Raises PublishFailed, as shared.broker.channels.publish does.
    """
    try:
        await publish(channel, message)
    except Unroutable as fault:
        if channel is None:
            raise
        try:
            await asyncio.sleep(CANCELLED_S_MAX)
            await declare_bound(channel.connection, queue)
        except BROKER_FAULTS as refusal:
            log.warning("topology.not_declared", queue=queue.queue, fault=repr(refusal))
            raise fault from refusal
        log.warning("topology.declared_again", queue=queue.queue)
        await publish(channel, message)


async def _exists(connection: aio_pika.abc.AbstractConnection, queue: str) -> bool:
    channel = await connection.channel()  # a passive declare that fails closes its channel
    try:
        await channel.declare_queue(queue, passive=True)
    except aio_pika.exceptions.ChannelClosed:
        return False
    await channel.close()
    return True
