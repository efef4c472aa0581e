"""The worker's consumer when a broker is slow to open channels."""

import asyncio
from typing import cast

import pytest

from services.ledger_worker.broker import consumer
from services.ledger_worker.broker.consumer import RabbitConsumer
from services.ledger_worker.broker.publisher import RabbitPublisher
from services.ledger_worker.ports import Delivery
from shared.broker.channels import Connection
from shared.domain.ids import Partition

HERE = Partition(0)


class Channel:
    """What the consumer asks of one."""

    def __init__(self) -> None:
        self.closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_consumer_cancel_callbacks: set[object] = set()
        self.is_consuming = False

    @property
    def is_closed(self) -> bool:
        return self.closing.done()

    async def exchange_declare(self, *_: object, exchange_type: str, durable: bool) -> None:
        assert durable, exchange_type

    async def queue_declare(self, *_: object, durable: bool, arguments: object) -> None:
        assert durable, arguments

    async def basic_qos(self, *, prefetch_count: int) -> None:
        assert prefetch_count > 0

    async def basic_consume(self, *_: object, no_ack: bool) -> None:
        assert not no_ack
        self.is_consuming = True

    async def close(self) -> None:
        self.closing.set_result(None)


class Sink:
    """Takes nothing."""

    def deliver(self, delivery: Delivery) -> None:
        raise AssertionError(delivery)

    def nudge(self, source: Partition, destination: Partition, batch: int) -> None:
        raise AssertionError(source, destination, batch)

    def channel_lost(self, partition: Partition) -> None:
        raise AssertionError(partition)


@pytest.mark.parametrize("is_wanted", [False, True])
async def test_a_channel_that_is_open_when_its_partition_is_given_back_is_closed(
    monkeypatch: pytest.MonkeyPatch, *, is_wanted: bool
) -> None:
    may_open, opened = asyncio.Event(), Channel()

    async def open_channel(_: object, *, confirmed: bool) -> Channel:
        assert not confirmed
        await may_open.wait()
        return opened

    monkeypatch.setattr(consumer, "open_channel", open_channel)
    rabbit = RabbitConsumer("amqp://nowhere/", "one", Sink(), RabbitPublisher("amqp://nowhere/", "one"))
    consuming = asyncio.get_running_loop().create_task(rabbit._consume(cast("Connection", None), HERE))
    await rabbit.open(HERE)
    await asyncio.sleep(0)
    if not is_wanted:
        await rabbit.close(HERE)
    may_open.set()
    await consuming
    assert (opened.is_consuming, opened.is_closed, rabbit.is_consuming(HERE)) == (is_wanted, not is_wanted, is_wanted)
