"""Without a worker, a broker or a database: what a gateway says is true, and every unknown ends."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from shared.domain.ids import CommandIds, Principal
from tests.backends.databases import Database
from tests.backends.servers import RabbitServer
from tests.integration.gateway import SECRET, Stack, stack, wait_until_ready

BOB, CAROL = {"id": "bob", "asset": "USD"}, {"id": "carol", "asset": "USD"}
NUMBERS = itertools.count()


@pytest.fixture
def alone(database: Database, rabbitmq: RabbitServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A ledger of its own, with nobody on it yet."""
    name = f"gateway-faults-{next(NUMBERS)}"
    rabbitmq.make_vhost(name)
    with stack(database, rabbitmq.amqp_url(name), tmp_path_factory.mktemp(name)) as running:
        yield running
    rabbitmq.drop_vhost(name)


async def test_a_command_that_nobody_decides_is_pending_and_posted_once_a_worker_comes(alone: Stack) -> None:
    client = alone.gateway()
    told = await client.post("/v1/accounts", BOB, key="a", prefer="respond-async")
    assert told.status == 202
    assert (await client.get(told.headers["Location"]))["status"] == "pending"
    async with asyncio.TaskGroup() as group:
        joined = group.create_task(client.post("/v1/accounts", BOB, key="a", prefer="wait=20"))
        alone.worker()
        assert (await client.get(told.headers["Location"] + "&wait=20"))["status"] == "posted"
    assert joined.result().status == 201
    again = await client.post("/v1/accounts", BOB, key="a")
    assert (again.status, again.replayed) == (201, True)


async def test_a_cancellation_ends_an_unknown_one_way_or_the_other_for_good(alone: Stack) -> None:
    client = alone.gateway()
    unknown = (await client.post("/v1/accounts", BOB, key="a", prefer="respond-async")).headers["Operation-Id"]
    path = f"/v1/operations/{unknown}/cancel"
    async with asyncio.TaskGroup() as group:
        cancelling = group.create_task(client.call("POST", path, headers={"Prefer": "wait=20"}))
        alone.worker()
    told = cancelling.result()
    assert told.status == 200
    assert told.body["status"] in {"posted", "rejected"}
    assert (await client.call("POST", path)).text == told.text
    again = await client.post("/v1/accounts", BOB, key="a")
    assert again.status == (201 if told.body["status"] == "posted" else 409)


async def test_an_id_that_never_arrived_is_cancelled_for_good(alone: Stack) -> None:
    client = alone.gateway()
    alone.worker()
    unknown = CommandIds(SECRET).of_key(Principal("admin"), "lost")  # as a gateway that died made it
    told = await client.call("POST", f"/v1/operations/{unknown}/cancel", headers={"Prefer": "wait=20"})
    assert (told.status, told.body["status"], told.body["code"]) == (200, "rejected", "cancelled")
    late = await client.post("/v1/accounts", BOB, key="lost")
    assert (late.status, late.code, late.replayed) == (409, "cancelled", True)
    assert (await client.call("GET", "/v1/accounts/bob")).code == "not_found"


async def test_without_a_broker_writes_are_unavailable_and_reads_go_on(alone: Stack, rabbitmq: RabbitServer) -> None:
    client = alone.gateway()
    rabbitmq.drop_vhost(alone.vhost.rpartition("/")[2])
    missing: dict[str, str] = {}
    while "rabbitmq" not in missing:
        await asyncio.sleep(0.05)
        missing = cast("dict[str, str]", (await client.call("GET", "/readyz")).body["missing"])
    assert missing["rabbitmq"] == "not connected, or it blocks publishers"
    told = await client.post("/v1/accounts", BOB)
    assert (told.status, told.code, told.headers["Retry-After"]) == (503, "unavailable", "1")
    assert "Operation-Id" not in told.headers
    assert (await client.call("GET", "/v1/assets")).status == 200
    assert (await client.call("GET", "/livez")).status == 200
    rabbitmq.make_vhost(alone.vhost.rpartition("/")[2])


async def test_a_stopping_gateway_answers_those_who_wait(alone: Stack) -> None:
    client = alone.gateway()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(client.post("/v1/accounts", BOB, key="a", prefer="wait=30"))
        while "commands_pending 1.0" not in await client.metrics():
            await asyncio.sleep(0.05)
        assert await asyncio.to_thread(alone.processes[0].stop) == 0
    assert waiting.result().status == 202


async def test_a_setting_that_loses_commits_makes_the_gateway_unready_and_is_named(alone: Stack) -> None:
    name = alone.database.name
    await alone.execute(f'ALTER ROLE tellerline_gateway IN DATABASE "{name}" SET synchronous_commit = off')
    ready = await alone.gateway(ready=False).call("GET", "/readyz")
    assert (ready.status, ready.body["status"]) == (503, "unavailable")
    assert cast("dict[str, str]", ready.body["missing"])["postgres"] == "synchronous_commit is off"


@asynccontextmanager
async def without_database(stack: Stack) -> AsyncGenerator[None]:
    """The gateway's connections break and it gets no new ones; the worker goes on."""
    await stack.execute("ALTER ROLE tellerline_gateway NOLOGIN")
    try:
        await stack.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE usename = 'tellerline_gateway' AND datname = current_database()"
        )
        yield
    finally:
        await stack.execute("ALTER ROLE tellerline_gateway LOGIN")


async def test_without_a_database_nothing_is_refused_that_took_effect(alone: Stack) -> None:
    client = alone.gateway()
    alone.worker()
    assert (await client.post("/v1/accounts", BOB, prefer="wait=30")).status == 201
    deposit = {"account": "bob", "amount": "1", "asset": "USD"}
    async with without_database(alone):
        read = await client.call("GET", "/v1/accounts/bob")
        assert (read.status, read.code, read.headers["Retry-After"]) == (503, "unavailable", "1")
        # What needs no reading is answered as ever; a repeat is read from the journal.
        assert (await client.post("/v1/accounts", CAROL, key="a")).status == 201
        repeated = await client.post("/v1/accounts", CAROL, key="a")
        assert repeated.status == 202
        assert (await client.post("/v1/deposits", deposit)).body["balances"] == {"world:USD:0": "-1", "bob": "1"}
        async with asyncio.timeout(5):
            while (await client.call("GET", "/readyz")).status == 200:
                await asyncio.sleep(0.1)
        assert (await client.call("GET", "/livez")).status == 200
    assert (await client.get(repeated.headers["Location"] + "&wait=20"))["status"] == "posted"
    again = await client.post("/v1/accounts", CAROL, key="a")
    assert (again.status, again.body["id"], again.replayed) == (201, "carol", True)


async def test_where_too_few_files_may_be_open_a_connection_more_is_told_so_and_counted_and_nobody_else_notices(
    alone: Stack,
) -> None:
    alone.worker()
    client = alone.gateway(files_max=150)
    await client.account("bob")
    host, port = client.url.removeprefix("http://").split(":")
    opened = [await asyncio.open_connection(host, int(port)) for _ in range(200)]
    refused = [reader for reader, _ in opened if await said_at_once(reader)]
    assert 100 < len(refused) < 200
    _, first = opened[0]
    first.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await opened[0][0].readline()).startswith(b"HTTP/1.1 ")
    for _, writer in opened:
        writer.close()
    wait_until_ready(client.url)
    lines = (await client.metrics()).splitlines()
    name = 'tellerline_gateway_problems_total{code="overloaded"} '
    (counted,) = [float(line.removeprefix(name)) for line in lines if line.startswith(name)]
    assert counted >= len(refused)
    assert (await client.get("/v1/accounts/bob"))["balance"] == "0"


async def said_at_once(reader: asyncio.StreamReader) -> bool:
    """Whether this connection was refused with a whole answer."""
    try:
        async with asyncio.timeout(0.05):
            answer = await reader.read()
    except TimeoutError:
        return False
    assert answer.startswith(b"HTTP/1.1 503 "), answer
    return True
