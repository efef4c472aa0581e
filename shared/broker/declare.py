"""Declares exchanges, queues and bindings on a broker: `tellerline migrate`."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Final

import aio_pika
import structlog

from shared.broker.connection import connect_aio_pika
from shared.domain.ids import Partition
from shared.messages import topology

log = structlog.get_logger()

# If the broker crashes within this time after a queue was declared, the queue can come back empty.
SETTLE_AFTER_DECLARE_S: Final = 2.0


async def declare_topology(amqp_url: str, *, partitions: int) -> None:
    """Declares what is missing. Waits until new queues would survive a crash of the broker.

    Raises what is in BROKER_FAULTS.
    """
    connection = await connect_aio_pika(amqp_url, name="tellerline migrate")
    try:
        created = await _declare(connection, partitions)
    finally:
        await connection.close()
    if created:
        log.info("topology.created", queues=created)
        await asyncio.sleep(SETTLE_AFTER_DECLARE_S)


async def _declare(connection: aio_pika.abc.AbstractConnection, partitions: int) -> int:
    """Declares everything. Returns how many queues are new."""
    channel = await connection.channel()
    for exchange, kind in topology.EXCHANGES.items():
        await channel.declare_exchange(exchange, aio_pika.ExchangeType(kind), durable=True)
    created = 0
    for name, arguments, exchange, key in _queues(partitions):
        created += not await _exists(connection, name)
        queue = await channel.declare_queue(name, durable=True, arguments=dict(arguments))
        await queue.bind(exchange, key)
    return created


def _queues(partitions: int) -> Iterator[tuple[str, Mapping[str, str | int | bool], str, str]]:
    """Queue, its arguments, the exchange that it is bound to, and the routing key."""
    dead_letters = topology.DEAD_LETTERS_QUEUE_ARGUMENTS
    yield topology.DEAD_LETTERS_QUEUE, dead_letters, topology.DEAD_LETTERS, topology.DEAD_LETTERS_KEY
    yield topology.MIX_QUEUE, topology.MIX_QUEUE_ARGUMENTS, topology.MIXER, topology.MIX_KEY
    for number in range(partitions):
        queue, key = topology.partition_queue(Partition(number)), topology.PARTITION_KEYS[number]
        yield queue, topology.PARTITION_QUEUE_ARGUMENTS, topology.COMMANDS, key


async def _exists(connection: aio_pika.abc.AbstractConnection, queue: str) -> bool:
    channel = await connection.channel()  # a passive declare that fails closes its channel
    try:
        await channel.declare_queue(queue, passive=True)
    except aio_pika.exceptions.ChannelClosed:
        return False
    await channel.close()
    return True
