"""RabbitMQ when something is full, gone, silent or late: what its clients are told, and what goes on."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from services.ledger_worker.broker import consumer
from services.ledger_worker.ports import Delivery
from shared.broker import channels, declare
from shared.broker.channels import Channel, Connection, OutgoingMessage, QueueFull, Unroutable, open_channel, publish
from shared.broker.connection import connect
from shared.broker.declare import BoundQueue
from shared.domain.ids import Partition
from shared.messages import topology
from tests.contract.brokers import ConnectedWorker, RabbitServer
from tests.contract.conditions import eventually
from tests.integration.silence import way_to

P0, P1 = Partition(0), Partition(1)
# More than RabbitMQ takes beyond the maximum length of a quorum queue before it begins to refuse.
MESSAGES_MAX = 100


@pytest.fixture
async def rabbit(broker: str) -> AsyncIterator[tuple[RabbitServer, Connection]]:
    """A server with a sender's connection."""
    server = RabbitServer(broker)
    await server.open()
    connection = await connect(broker, name="tests")
    yield server, connection
    await connection.close()
    await server.close()


async def test_a_full_queue_refuses_a_publish_for_certain(rabbit: tuple[RabbitServer, Connection]) -> None:
    server, connection = rabbit
    await server.replace_queue(0, length_max=1)
    channel = await open_channel(connection, confirmed=True)

    async def fill() -> None:
        for _ in range(MESSAGES_MAX):
            await publish(channel, OutgoingMessage(topology.COMMANDS, topology.PARTITION_KEYS[0], b"full", "cmd.v1"))

    with pytest.raises(QueueFull):
        await fill()


async def test_a_message_for_which_there_is_no_queue_comes_back(rabbit: tuple[RabbitServer, Connection]) -> None:
    server, connection = rabbit
    await server.delete_queue(0)
    channel = await open_channel(connection, confirmed=True)
    with pytest.raises(Unroutable):
        await publish(channel, OutgoingMessage(topology.COMMANDS, topology.PARTITION_KEYS[0], b"lost", "cmd.v1"))
    # The channel goes on.
    await publish(channel, OutgoingMessage(topology.COMMANDS, topology.PARTITION_KEYS[1], b"kept", "cmd.v1"))


async def test_a_queue_that_does_not_answer_keeps_no_other_partition_waiting(
    rabbit: tuple[RabbitServer, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _ = rabbit
    answers, declare_queue = asyncio.Event(), consumer.declare_queue

    async def silent(channel: Channel, wanted: BoundQueue) -> None:
        if wanted.queue == topology.partition_queue(P0):
            await answers.wait()
        await declare_queue(channel, wanted)

    monkeypatch.setattr(consumer, "declare_queue", silent)
    monkeypatch.setattr(consumer, "CONSUME_TIMEOUT_S", 0.5)
    worker = await server.connect("one")
    for partition in (P0, P1):
        await worker.consumer.open(partition)
    await server.publish(0, "late")
    await server.publish(1, "other")
    await worker.receives("other")
    answers.set()
    await worker.receives("other", "late")
    assert worker.channels_lost == []


async def test_nothing_is_delivered_before_its_reply_could_be_sent(rabbit: tuple[RabbitServer, Connection]) -> None:
    """After a restart of the broker either connection may come first, and a lost reply costs a client its time-out."""
    server, _ = rabbit
    could_reply: list[bool] = []

    class Sink(ConnectedWorker):
        def deliver(self, delivery: Delivery) -> None:
            could_reply.append(publisher.is_ready())
            super().deliver(delivery)

    worker = Sink()
    consuming, publisher = server.begin_consuming("one", worker)
    await consuming.open(P0)
    await server.publish(0, "a")
    await asyncio.sleep(0.5)  # the time that the other connection takes longer
    server.begin_publishing(publisher)
    await worker.receives("a")
    assert could_reply == [True]


async def test_a_broker_that_answers_late_costs_no_partition_its_channel(
    broker: str, rabbit: tuple[RabbitServer, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request that is given up closes its channel: so it must have one of its own."""
    server, _ = rabbit
    monkeypatch.setattr(consumer, "TOPOLOGY_S", 0.1)
    monkeypatch.setattr(channels, "REQUESTS_TIMEOUT_S", 0.2)
    async with way_to(broker) as way:
        server.url = way.url
        worker = await server.connect("one")
        await worker.consumer.open(P0)
        await server.publish(0, "a")
        await worker.receives("a")
        way.open.clear()
        await asyncio.sleep(1.0)  # longer than any request is waited for, and shorter than any heartbeat
        way.open.set()
        await server.publish(0, "b")
        await worker.receives("a", "b")
        assert worker.channels_lost == []


async def test_a_queue_takes_nothing_before_it_would_survive_a_crash_of_the_broker(
    rabbit: tuple[RabbitServer, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quorum queue that was declared less than two seconds before the broker dies may come back empty."""
    server, connection = rabbit
    monkeypatch.setattr(declare, "SETTLE_AFTER_DECLARE_S", 1.0)
    worker = await server.connect("one")
    await worker.consumer.open(P0)
    await eventually(lambda: worker.consumer.is_consuming(P0))
    await server.delete_queue(0)
    await eventually(lambda: worker.channels_lost and worker.consumer.is_consuming(P0))
    channel = await open_channel(connection, confirmed=True)
    message = OutgoingMessage(topology.COMMANDS, topology.PARTITION_KEYS[0], b"a", "cmd.v1")
    with pytest.raises(Unroutable):
        await publish(channel, message)
    began_s = time.monotonic()
    await declare.publish_to(channel, declare.commands_of(P0), message)
    assert time.monotonic() - began_s >= 1.0
    await worker.receives("a")


async def test_a_queue_that_its_sender_declares_again_is_consumed_again(
    rabbit: tuple[RabbitServer, Connection],
) -> None:
    server, connection = rabbit
    worker = await server.connect("one")
    await worker.consumer.open(P0)
    await eventually(lambda: worker.consumer.is_consuming(P0))
    channel = await open_channel(connection, confirmed=True)
    for body in ("a", "b", "c"):
        await server.delete_queue(0)
        message = OutgoingMessage(topology.COMMANDS, topology.PARTITION_KEYS[0], body.encode(), "cmd.v1")
        await declare.publish_to(channel, declare.commands_of(P0), message)
        await eventually(lambda body=body: worker.bodies[-1:] == [body], 5.0)
