"""Dead letters for tests: put into their queue, counted, taken from where they went, listed."""

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import cast

import aiormq
from aiormq.abc import DeliveredMessage

from shared.broker.channels import Channel, OutgoingMessage, open_channel, publish
from shared.broker.dead_letters import (
    EXCHANGE_HEADER,
    ID_HEADER,
    KEY_HEADER,
    REASON_HEADER,
    SINCE_HEADER,
)
from shared.messages import topology
from tests.integration.gateway import Client

# Orders of mixes: the deposit poller, which would take them, does not run here.
QUEUE = topology.MIX_QUEUE
PATH = "/v1/operator/dead-letters"
BODY = b'{"v":1,"commands":[]}'
NUMBERS = itertools.count(1)
DELIVERY_MAX_S = 10


def environment_of(api: Client) -> dict[str, str]:
    return os.environ | {"TELLERLINE_GATEWAY_URL": api.url, "TELLERLINE_API_KEY": api.key}


async def tellerline(api: Client, *arguments: str) -> tuple[int, str, str]:
    """The command line as a shell runs it: exit code, output, errors."""
    command = [sys.executable, "-m", "tellerline", "dead-letters", *arguments]
    ended = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False, env=environment_of(api)
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.returncode, ended.stdout, ended.stderr


@asynccontextmanager
async def channel_of(broker: str) -> AsyncGenerator[Channel]:
    connection = await aiormq.connect(broker)
    try:
        yield await open_channel(connection, confirmed=True)
    finally:
        await connection.close()


async def add(broker: str, number: int = 1, *, key: str = topology.MIX_KEY, body: bytes = BODY) -> str:
    """A dead letter as a service publishes it; its id."""
    identity = f"{next(NUMBERS):032x}"
    headers: Mapping[str, str | int] = {
        ID_HEADER: identity,
        REASON_HEADER: f"reason {number}",
        SINCE_HEADER: 1_700_000_000 + number,
        EXCHANGE_HEADER: topology.MIXER,
        KEY_HEADER: key,
        "mac": "abc",
    }
    exchange, routing_key = topology.DEAD_LETTERS, topology.DEAD_LETTERS_KEY
    async with channel_of(broker) as channel:
        await publish(channel, OutgoingMessage(exchange, routing_key, body, "mix.v1", reply_to="r", headers=headers))
    return identity


async def waiting(broker: str, queue: str = topology.DEAD_LETTERS_QUEUE) -> int:
    async with channel_of(broker) as channel:
        return (await channel.queue_declare(queue, passive=True)).message_count or 0


async def delivery(channel: Channel, queue: str) -> DeliveredMessage:
    came: asyncio.Future[DeliveredMessage] = asyncio.get_running_loop().create_future()

    async def take(message: DeliveredMessage) -> None:
        if not came.done():
            came.set_result(message)

    await channel.basic_qos(prefetch_count=1)
    await channel.basic_consume(queue, take)
    return await asyncio.wait_for(came, DELIVERY_MAX_S)


async def taken(broker: str, queue: str) -> DeliveredMessage:
    async with channel_of(broker) as channel:
        return await delivery(channel, queue)


async def listed(api: Client) -> list[object]:
    """The ids of all dead letters, page by page."""
    found: list[object] = []
    following: object = ""
    while following is not None:
        answer = await api.get(f"{PATH}?limit=2" + (f"&cursor={following}" if following else ""))
        found += [row["id"] for row in cast("list[dict[str, object]]", answer["data"])]
        following = answer["next"]
    return found
