"""ports.Consumer.close: the twin promises no more than RabbitMQ and its client do."""

import asyncio

import pytest

from services.ledger_worker.broker import consumer
from shared.domain.ids import Partition
from tests.contract.brokers import Server
from tests.contract.conditions import eventually
from tests.twins.broker import MemoryConnection

P0 = Partition(0)


async def test_nothing_is_delivered_from_the_call_of_close_on_though_the_broker_goes_on_sending(server: Server) -> None:
    one, two = await server.connect("one"), await server.connect("two")
    for _ in range(5):
        await one.consumer.open(P0)
        await server.publish(0, "first")
        await eventually(lambda: "first" in one.bodies)
        async with asyncio.TaskGroup() as group:
            group.create_task(server.publish(0, *"abcdefghij"))
            closing = group.create_task(one.consumer.close(P0))
            await asyncio.sleep(0)
            seen = len(one.deliveries)
        assert closing.done()
        await two.consumer.open(P0)
        await eventually(lambda: two.bodies[-1:] == ["j"])
        assert len(one.deliveries) == seen
        two.consumer.acknowledge(two.deliveries[-1])
        await two.consumer.close(P0)
        two.deliveries.clear()
        one.deliveries.clear()


async def test_a_channel_whose_closing_is_not_answered_in_time_is_closed_later_and_keeps_its_order(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = await server.connect("one"), await server.connect("two")
    await one.consumer.open(P0)
    await server.publish(0, *"abc")
    await one.receives(*"abc")
    monkeypatch.setattr(consumer, "CLOSE_TIMEOUT_S", 0.0)
    if isinstance(one.consumer, MemoryConnection):
        one.consumer.close_late_s = 0.2
    await one.consumer.close(P0)
    await two.consumer.open(P0)
    await server.publish(0, "d")
    await two.receives(*"abcd")
    assert one.bodies == list("abc")
