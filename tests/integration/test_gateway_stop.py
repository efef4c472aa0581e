"""A gateway that stops answers what it has taken, and loses nothing of which it said that it is under way."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.backends.databases import Database
from tests.integration.balancer import balancer, free_port
from tests.integration.gateway import ADMIN_KEY, STOP_MAX_S, Stack, stack
from tests.integration.silence import way_to

CLIENTS = 48
SERVED_BEFORE = 400
RESTARTS = 3


@pytest.fixture
def alone(database: Database, vhost: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(database, vhost, tmp_path_factory.mktemp("stop")) as running:
        running.worker()
        yield running


TRANSFER = json.dumps({"source": "alice", "destination": "bob", "amount": "1", "asset": "USD"})
REQUEST = (
    f"POST /v1/transfers HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
    f"Content-Type: application/json\r\nContent-Length: {len(TRANSFER)}\r\n\r\n{TRANSFER}"
).encode()


@dataclass(slots=True)
class Load:
    """Clients of one gateway that keep their connection, and others that open one for each request."""

    port: int
    answered: int = 0
    closed: int = 0
    refused: int = 0
    ends: bool = False
    lost: list[str] = field(default_factory=list[str])

    async def keeping(self) -> None:
        """One transfer after the other, until an answer says that the connection ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while not await self.transfer(reader, writer) and not self.ends:
            pass
        self.closed += 1
        writer.close()

    async def connecting(self) -> None:
        """One transfer after the other, until nobody listens any more."""
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                self.refused += 1
                return
            await self.transfer(reader, writer)
            writer.close()

    async def transfer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection ends with this answer. Notes what is no answer, or says anything but 201 or 202."""
        try:
            writer.write(REQUEST)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError) as fault:
            self.lost.append(repr(fault))
            return True
        if not answer.startswith((b"HTTP/1.1 201", b"HTTP/1.1 202")):
            self.lost.append(answer.decode())
        self.answered += 1
        return b"\r\nConnection: close\r\n" in answer


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_gateway_that_stops_answers_every_request_that_it_was_sent(alone: Stack) -> None:
    client = await asyncio.to_thread(alone.gateway)
    await client.account("alice", funds="1000000")
    await client.account("bob")
    for _ in range(RESTARTS):
        load = Load(int(client.url.rpartition(":")[2]))
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(load.keeping())
                group.create_task(load.connecting())
            await eventually(lambda load=load: load.answered >= SERVED_BEFORE)
            alone.processes[-1].started.terminate()
        assert load.lost == []
        assert (load.closed, load.refused) == (CLIENTS, CLIENTS)
        assert await asyncio.to_thread(alone.processes[-1].started.wait, STOP_MAX_S) == 0
        client = await asyncio.to_thread(alone.gateway)


@pytest.mark.timeout(180)
async def test_a_rolling_restart_behind_the_balancer_shows_its_clients_no_error(alone: Stack, tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    client, _ = [await asyncio.to_thread(alone.gateway, port=str(port)) for port in ports]
    running = alone.processes[-2:]
    await client.account("alice", funds="1000000")
    await client.account("bob")
    with balancer(tmp_path, ports) as front:
        load = Load(front)
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(load.keeping())
            for number in (0, 1):
                served = load.answered
                await eventually(lambda served=served: load.answered >= served + SERVED_BEFORE)
                assert await asyncio.to_thread(running[number].stop) == 0
                await asyncio.to_thread(alone.gateway, port=str(ports[number]))
            load.ends = True
    assert load.lost == []


async def test_a_write_is_under_way_only_once_the_broker_has_it(alone: Stack) -> None:
    async with way_to(alone.vhost) as rabbitmq:
        client = await asyncio.to_thread(alone.gateway, amqp_url=rabbitmq.url)
        rabbitmq.open.clear()
        told = await client.post("/v1/accounts", {"id": "bob", "asset": "USD"}, prefer="respond-async")
        assert (told.status, told.code) == (504, "outcome_unknown")
        rabbitmq.open.set()


async def test_idle_connections_are_closed_after_a_grace_time_in_which_they_may_still_be_used(alone: Stack) -> None:
    client = await asyncio.to_thread(alone.gateway)
    port = int(client.url.rpartition(":")[2])
    used, silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    for _, writer in (used, silent):
        writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
    for reader, _ in (used, silent):
        assert b"Connection: close" not in await reader.readuntil(b"}")
    alone.processes[-1].started.terminate()
    while not await refuses(port):
        pass
    used[1].write(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = await used[0].read()
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"\r\nConnection: close\r\n" in answer
    assert b'"gateway":"stopping"' in answer
    assert await silent[0].read() == b""
    for _, writer in (used, silent):
        writer.close()


async def refuses(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.close()
    return False
