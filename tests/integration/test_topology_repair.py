"""Exchanges, queues and bindings that are deleted while everything runs come back by themselves."""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import aio_pika
import pytest
from pamqp.common import Arguments

from services.deposit_poller.orders import PREFETCH_ORDERS
from shared.broker.channels import PublishFailed, open_channel
from shared.domain.ids import AccountId, Partition
from shared.messages import Command, topology
from tests.backends.databases import Database
from tests.contract.conditions import eventually, eventually_async
from tests.integration.ledger_scenes import MAKE, funded, posted_once
from tests.integration.mixer import MixerScene, mixer_scene
from tests.integration.mixer_stage import Stage, stage
from tests.integration.worker import Ledger

REPAIRED_S_MAX = 15.0
NUMBERS = itertools.count()
pytestmark = pytest.mark.timeout(180)
Change = Callable[[aio_pika.abc.AbstractChannel], Awaitable[object]]


@pytest.fixture
def mixer(database: Database, broker: str, tmp_path: Path) -> Iterator[Stage]:
    with stage(database, broker, tmp_path) as opened:
        opened.start("deposit_poller")
        yield opened


async def change(broker: str, *changes: Change) -> None:
    """As an operator or another program would."""
    connection = await aio_pika.connect(broker)
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
        await change(ledger.broker, *changes)
        await decided_again(ledger, alice, bob)
    for queue in (*queues, topology.DEAD_LETTERS_QUEUE):
        assert await eventually_async(lambda queue=queue: exists(ledger, queue), REPAIRED_S_MAX), queue


async def test_a_sender_declares_the_queue_that_it_misses_while_no_worker_runs(ledger: Ledger) -> None:
    alice, bob = await funded(ledger, 0, 1)
    await change(ledger.broker, delete_queue(topology.partition_queue(Partition(0))))
    command = MAKE.transfer(alice, bob, 1)
    sent = ledger.send(command)
    await ledger.start().ready()
    assert (await ledger.result(sent)).outcome.status == "posted"


async def test_a_dead_letter_declares_the_queue_that_it_misses(ledger: Ledger) -> None:
    await funded(ledger, 0)
    await ledger.start().ready()
    await change(ledger.broker, delete_queue(topology.DEAD_LETTERS_QUEUE))
    await ledger.publish(0, b"not an envelope")
    assert await eventually_async(lambda: exists(ledger, topology.DEAD_LETTERS_QUEUE), REPAIRED_S_MAX)
    [(body, _)] = await ledger.dead_letters(1)
    assert body == b"not an envelope"


async def is_ordered(here: MixerScene) -> bool:
    """Whether an order is decided; until all is repaired it may be refused, or hear nothing."""
    with contextlib.suppress(PublishFailed):
        order = here.order(f"address-{next(NUMBERS)}")
        return await here.client.result(here.client.send_order(order), 2.0) is not None
    return False


async def test_the_deleted_queue_of_orders_comes_back_by_itself(mixer: Stage) -> None:
    async with mixer_scene(mixer) as here:
        for changes in ([delete_queue(topology.MIX_QUEUE)], [delete_exchange(topology.MIXER)]):
            assert await is_ordered(here)
            await change(mixer.amqp, *changes)
            await eventually_async(lambda: is_ordered(here), REPAIRED_S_MAX)


async def take_all(channel: aio_pika.abc.AbstractChannel, bodies: set[bytes]) -> None:
    """Takes what there is in the queue of dead letters."""
    queue = await channel.get_queue(topology.DEAD_LETTERS_QUEUE)
    while (message := await queue.get(no_ack=True, fail=False)) is not None:
        bodies.add(message.body)


async def test_unreadable_orders_are_set_aside_once_their_dead_letters_are_taken_and_stop_no_other(
    mixer: Stage,
) -> None:
    """They are more than the poller takes at once."""
    poller, rubbish = mixer.processes[-1], {b"rubbish %d" % number for number in range(2 * PREFETCH_ORDERS)}

    async def full_queue(channel: aio_pika.abc.AbstractChannel) -> None:
        await channel.queue_delete(topology.DEAD_LETTERS_QUEUE)
        limits = {"x-max-length": 1, "x-overflow": "reject-publish"}
        arguments: Arguments = {**topology.DEAD_LETTERS_QUEUE_ARGUMENTS, **limits}
        queue = await channel.declare_queue(topology.DEAD_LETTERS_QUEUE, durable=True, arguments=arguments)
        await queue.bind(topology.DEAD_LETTERS, topology.DEAD_LETTERS_KEY)

    async def send_rubbish(channel: aio_pika.abc.AbstractChannel) -> None:
        exchange = await channel.get_exchange(topology.MIXER)
        for body in rubbish:
            await exchange.publish(aio_pika.Message(body, delivery_mode=2), topology.MIX_KEY)

    await change(mixer.amqp, full_queue, send_rubbish)
    await eventually(lambda: "dead_letter.not_published" in poller.text(), REPAIRED_S_MAX)
    found: set[bytes] = set()

    async def is_all_found() -> bool:
        await change(mixer.amqp, lambda channel: take_all(channel, found))
        return found == rubbish

    await eventually_async(is_all_found, 2 * REPAIRED_S_MAX)
    async with mixer_scene(mixer) as here:
        assert await is_ordered(here)
