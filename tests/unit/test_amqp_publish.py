"""How a publish ends when the connection does."""

import asyncio
from typing import cast

import pytest

from shared import amqp
from shared.amqp import Outgoing, SendUnknown

MESSAGE = Outgoing("exchange", "key", b"{}", "kind.v1")


class Ready:
    """A connection that takes publishes."""

    async def ready(self) -> None:
        return


class Closing:
    """A channel whose connection is closed while a publish waits for its confirm, as aiormq does it."""

    is_closed = False
    connection = Ready()

    def __init__(self) -> None:
        self.confirm: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def basic_publish(self, *_: object, **__: object) -> None:
        await self.confirm


async def test_a_connection_that_is_closed_meanwhile_leaves_an_unknown_and_not_a_cancelled_task() -> None:
    channel = Closing()
    asyncio.get_running_loop().call_soon(channel.confirm.cancel)
    with pytest.raises(SendUnknown):
        await amqp.publish(cast("amqp.Channel", channel), MESSAGE)


async def test_a_publish_that_is_cancelled_itself_stays_so() -> None:
    channel = Closing()
    async with asyncio.TaskGroup() as group:
        publishing = group.create_task(amqp.publish(cast("amqp.Channel", channel), MESSAGE))
        await asyncio.sleep(0)
        publishing.cancel()
    assert publishing.cancelled()
