"""How a publish ends when the connection does."""

import asyncio
from typing import cast

import pytest

from shared.broker import channels
from shared.broker.channels import (
    Channel,
    NotPublished,
    OutgoingMessage,
    PublishUnknown,
    publish,
    publish_unconfirmed,
)

MESSAGE = OutgoingMessage("exchange", "key", b"{}", "kind.v1")


class Ready:
    """A connection that takes publishes, unless it is blocked."""

    is_blocked = False

    async def ready(self) -> None:
        if self.is_blocked:
            await asyncio.Event().wait()


class Closing:
    """A channel whose connection is closed while a publish waits for its confirm, as aiormq does it."""

    is_closed = False

    def __init__(self) -> None:
        self.connection = Ready()
        self.confirm: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def basic_publish(self, *_: object, **__: object) -> None:
        await self.confirm


async def test_a_connection_that_is_closed_meanwhile_leaves_an_unknown_and_not_a_cancelled_task() -> None:
    channel = Closing()
    asyncio.get_running_loop().call_soon(channel.confirm.cancel)
    with pytest.raises(PublishUnknown):
        await publish(cast("Channel", channel), MESSAGE)


async def test_a_publish_that_is_cancelled_itself_stays_so() -> None:
    channel = Closing()
    async with asyncio.TaskGroup() as group:
        publishing = group.create_task(publish(cast("Channel", channel), MESSAGE))
        await asyncio.sleep(0)
        publishing.cancel()
    assert publishing.cancelled()


async def test_a_confirm_that_does_not_come_in_time_leaves_an_unknown() -> None:
    with pytest.raises(PublishUnknown):
        await publish(cast("Channel", Closing()), MESSAGE, timeout_s=0.01)


async def test_a_broker_that_blocks_publishers_is_not_waited_for() -> None:
    channel = Closing()
    channel.connection.is_blocked = True
    with pytest.raises(NotPublished):
        await publish(cast("Channel", channel), MESSAGE)


@pytest.mark.parametrize("is_blocked", [True, False])
async def test_what_may_be_lost_waits_neither_for_a_broker_that_blocks_publishers_nor_for_a_full_connection(
    monkeypatch: pytest.MonkeyPatch, *, is_blocked: bool
) -> None:
    monkeypatch.setattr(channels, "UNCONFIRMED_TIMEOUT_S", 60.0 if is_blocked else 0.01)
    channel = Closing()
    channel.connection.is_blocked = is_blocked
    async with asyncio.timeout(5):
        await publish_unconfirmed(cast("Channel", channel), MESSAGE)
