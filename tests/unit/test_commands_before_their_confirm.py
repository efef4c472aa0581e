"""Commands that the broker has not confirmed yet: what who waits for one is told, and what counts as pending."""

import asyncio

import pytest

from shared.broker.channels import PublishUnknown, QueueFull
from shared.ledger_client import client
from tests.contract.conditions import eventually
from tests.unit.ledger_wire import HERE, Wire, posted, transfer


async def test_nobody_is_told_that_a_command_is_under_way_before_the_broker_has_it(wire: Wire) -> None:
    wire.confirms.clear()
    [pending] = wire.send()
    async with asyncio.TaskGroup() as group:
        told = group.create_task(wire.client.result(pending, 0.0))
        await wire.left(1)
        await eventually(lambda: bool(pending.publishing))
        assert not told.done()
        wire.confirms.set()
    assert told.result() is None
    assert pending.has_left


async def test_a_command_that_is_still_not_confirmed_in_the_end_is_unknown(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PUBLISHED_S_MAX", 0.01)
    wire.confirms.clear()
    [pending] = wire.send()
    with pytest.raises(PublishUnknown):
        await wire.client.result(pending, 0.0)


async def test_what_has_not_left_counts_although_nobody_waits_for_it(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PENDING_MAX", 4)
    wire.confirms.clear()
    in_flight = wire.send()
    await wire.left(1)
    waiting = wire.send(3)
    for pending in in_flight + waiting:
        await wire.leave(pending)
    assert wire.client.commands_pending == 4
    with pytest.raises(QueueFull):
        wire.send()
    wire.confirms.set()
    await wire.left(2)
    await eventually(lambda: wire.client.commands_pending == 0)
    await wire.reply(posted(in_flight[0]), posted(waiting[-1]))
    wire.send()


async def test_what_nobody_waits_for_is_dropped_when_its_publish_fails(wire: Wire) -> None:
    wire.confirms.clear()
    wire.fault = QueueFull("p00")
    [pending] = wire.send()
    await wire.left(1)
    await wire.leave(pending)
    wire.confirms.set()
    await eventually(lambda: wire.client.commands_pending == 0)


async def test_a_repeat_joins_a_command_that_has_not_left_though_its_first_client_is_gone(wire: Wire) -> None:
    wire.confirms.clear()
    command = transfer()
    first = wire.client.send(command, HERE)
    await wire.leave(first)
    again = wire.client.send(command, HERE)
    assert again is first
    waiting = asyncio.get_running_loop().create_task(wire.client.result(again, 60))
    wire.confirms.set()
    await wire.left(1)
    await wire.reply(posted(first))
    result = await waiting
    assert result is not None
    assert result.outcome.status == "posted"
    assert (wire.client.commands_pending, len(wire.envelopes)) == (0, 1)
