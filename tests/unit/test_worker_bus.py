"""The worker's bus when a broker is slow to open channels."""

import asyncio

import pytest

from services.ledger_worker.bus import RabbitBus
from services.ledger_worker.ports import Inbound
from services.ledger_worker.senders import Senders
from shared import amqp
from shared.ids import Partition

HERE = Partition(0)


class Channel:
    """What the bus asks of one."""

    def __init__(self) -> None:
        self.closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_consumer_cancel_callbacks: set[object] = set()
        self.is_consuming = False

    @property
    def is_closed(self) -> bool:
        return self.closing.done()

    async def basic_qos(self, *, prefetch_count: int) -> None:
        assert prefetch_count > 0

    async def basic_consume(self, *_: object, no_ack: bool) -> None:
        assert not no_ack
        self.is_consuming = True

    async def close(self) -> None:
        self.closing.set_result(None)


@pytest.mark.parametrize("is_wanted", [False, True])
async def test_a_channel_that_is_open_when_its_partition_is_given_back_is_closed(
    monkeypatch: pytest.MonkeyPatch, *, is_wanted: bool
) -> None:
    may_open, opened = asyncio.Event(), Channel()

    async def open_channel(_: object, *, confirmed: bool) -> Channel:
        assert not confirmed
        await may_open.wait()
        return opened

    def nothing(_: Inbound | Partition) -> None:
        pass

    monkeypatch.setattr(amqp, "open_channel", open_channel)
    bus = RabbitBus(
        "amqp://nowhere/",
        "one",
        Senders(b"s", nothing),
        secret="s" * 32,
        deliver=nothing,
        nudged=nothing,
        lost=nothing,
    )
    monkeypatch.setattr(bus._consuming, "connection", object())
    consuming = asyncio.get_running_loop().create_task(bus._consume(HERE))
    await bus.open(HERE)
    await asyncio.sleep(0)
    if not is_wanted:
        await bus.close(HERE)
    may_open.set()
    await consuming
    assert (opened.is_consuming, opened.is_closed, bus.consumes(HERE)) == (is_wanted, not is_wanted, is_wanted)
