"""Exchanges, queues and bindings that are deleted while everything runs come back by themselves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aio_pika
import pytest

from shared.broker.channels import PublishFailed, open_channel
from shared.domain.ids import AccountId, Partition
from shared.messages import Command, topology
from tests.backends.databases import Database
from tests.contract.conditions import eventually_async
from tests.integration.ledger_scenes import MAKE, funded, posted_once
from tests.integration.worker import Ledger, ledger_of

REPAIRED_S_MAX = 15.0
pytestmark = pytest.mark.timeout(180)
Change = Callable[[aio_pika.abc.AbstractChannel], Awaitable[object]]


@pytest.fixture
async def ledger(database: Database, broker: str, tmp_path: Path) -> AsyncIterator[Ledger]:
    async with ledger_of(database, broker, tmp_path) as ledger:
        yield ledger


async def change(ledger: Ledger, *changes: Change) -> None:
    """As an operator or another program would."""
    connection = await aio_pika.connect(ledger.broker)
    async with connection:
        for each in changes:
            await each(await connection.channel())


async def exists(ledger: Ledger, queue: str) -> bool:
    connection = await aio_pika.connect(ledger.broker)
    async with connection:
        try:
            await (await connection.channel()).declare_queue(queue, passive=True)
        except aio_pika.exceptions.ChannelClosed:
            return False
        return True


async def decided_again(ledger: Ledger, alice: AccountId, bob: AccountId) -> None:
    """Commands are decided within REPAIRED_S_MAX, whatever became of those that were sent at once."""
    async with asyncio.timeout(REPAIRED_S_MAX):
        while (command := MAKE.transfer(alice, bob, 1)) and not await is_decided(ledger, command):
            await asyncio.sleep(0.1)
    await posted_once(ledger, command)


async def is_decided(ledger: Ledger, command: Command) -> bool:
    """Whether the client hears an outcome; until all is repaired it may be refused, or hear nothing."""
    with contextlib.suppress(PublishFailed):
        return await ledger.client.call(command, ledger.partition(command), 2.0) is not None
    return False


def delete_queue(name: str) -> Change:
    return lambda channel: channel.queue_delete(name)


def delete_exchange(name: str) -> Change:
    return lambda channel: channel.exchange_delete(name)


async def delete_reply_queue(ledger: Ledger) -> None:
    """It is exclusive: only its own connection may."""
    connection, queue = ledger.client._replying.current, ledger.client._reply_to
    assert connection is not None
    assert queue is not None
    await (await open_channel(connection, confirmed=False)).queue_delete(queue)


async def test_whatever_is_deleted_of_the_topology_comes_back_by_itself(ledger: Ledger) -> None:
    alice, bob = await funded(ledger, 0, 1)
    await ledger.start().ready()
    await ledger.call(MAKE.transfer(alice, bob, 1))
    queues = [topology.partition_queue(Partition(number)) for number in range(ledger.database.partitions)]
    deletions = {
        "the queues of all partitions": [delete_queue(queue) for queue in queues],
        "the exchange of commands": [delete_exchange(topology.COMMANDS)],
        "the exchange of events and nudges": [delete_exchange(topology.EVENTS)],
        "exchange and queue of dead letters": [
            delete_exchange(topology.DEAD_LETTERS),
            delete_queue(topology.DEAD_LETTERS_QUEUE),
        ],
    }
    await delete_reply_queue(ledger)
    await decided_again(ledger, alice, bob)
    for changes in deletions.values():
        await change(ledger, *changes)
        await decided_again(ledger, alice, bob)
    for queue in (*queues, topology.DEAD_LETTERS_QUEUE):
        assert await eventually_async(lambda queue=queue: exists(ledger, queue), REPAIRED_S_MAX), queue


async def test_a_sender_declares_the_queue_that_it_misses_while_no_worker_runs(ledger: Ledger) -> None:
    alice, bob = await funded(ledger, 0, 1)
    await change(ledger, delete_queue(topology.partition_queue(Partition(0))))
    command = MAKE.transfer(alice, bob, 1)
    sent = ledger.send(command)
    await ledger.start().ready()
    assert (await ledger.result(sent)).outcome.status == "posted"


async def test_a_dead_letter_declares_the_queue_that_it_misses(ledger: Ledger) -> None:
    await funded(ledger, 0)
    await ledger.start().ready()
    await change(ledger, delete_queue(topology.DEAD_LETTERS_QUEUE))
    await ledger.publish(0, b"not an envelope")
    [(body, _)] = await ledger.dead_letters(1)
    assert body == b"not an envelope"
