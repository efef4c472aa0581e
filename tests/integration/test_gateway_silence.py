"""A broker or a database that is there but says nothing is noticed in seconds, and readiness says which it is."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.backends.databases import Database
from tests.integration.gateway import ADMIN_KEY, Client, Stack, Told, stack
from tests.integration.silence import Way, way_to

READY_ANSWER_S_MAX = 3.0
NAMED_S_MAX = 15.0
READ_ANSWER_S_MAX = 6.0
POSTGRES = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
RABBITMQ = {"publisher_confirms": "on", "messages": "persistent", "command_queues": "declared as quorum"}


@pytest.fixture
def alone(database: Database, vhost: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A ledger of its own, with nobody on it yet."""
    with stack(database, vhost, tmp_path_factory.mktemp("silence")) as running:
        yield running


async def timed(client: Client, path: str) -> tuple[Told, float]:
    """The answer, and the seconds until it was there."""
    began = time.monotonic()
    told = await client.call("GET", path)
    return told, time.monotonic() - began


async def until_ready(client: Client) -> None:
    async with asyncio.timeout(30):
        while (await client.call("GET", "/readyz")).status != 200:
            await asyncio.sleep(0.1)


async def test_readiness_names_each_dependency_and_its_durability_and_nothing_else(alone: Stack) -> None:
    alone.worker()
    client = await asyncio.to_thread(alone.gateway)
    await until_ready(client)
    ready = await client.get("/readyz")
    assert ready == {
        "status": "ok",
        "missing": {},
        "dependencies": {
            "postgres": {"ok": True, "why_not": None, "durability": POSTGRES},
            "partitions": {"ok": True, "why_not": None, "durability": {}},
            "rabbitmq": {"ok": True, "why_not": None, "durability": RABBITMQ},
        },
    }


@pytest.mark.parametrize("name", ["postgres", "rabbitmq"])
async def test_a_silent_dependency_is_noticed_within_five_seconds_and_so_is_its_return(alone: Stack, name: str) -> None:
    async with way_to(alone.database.gateway) as postgres, way_to(alone.vhost) as rabbitmq:
        ways: dict[str, Way] = {"postgres": postgres, "rabbitmq": rabbitmq}
        alone.worker()
        client = await asyncio.to_thread(alone.gateway, database_url=postgres.url, amqp_url=rabbitmq.url)
        await until_ready(client)
        ways[name].open.clear()
        silent = time.monotonic()
        while (asked := await timed(client, "/readyz"))[0].status == 200:
            assert asked[1] < READY_ANSWER_S_MAX
        assert time.monotonic() - silent < 5
        told = asked[0].body
        assert told["missing"] == {name: "it does not answer"}
        for secret in (ADMIN_KEY, "127.0.0.1", "localhost", "tellerline_gateway", "amqp:", "postgresql:"):
            assert secret not in asked[0].text
        assert f'"{name}":{{"ok":false,"why_not":"it does not answer","durability":{{}}}}' in asked[0].text
        again = await asyncio.gather(*(timed(client, "/readyz") for _ in range(20)))
        assert all(told.status == 503 and seconds < READY_ANSWER_S_MAX for told, seconds in again)
        assert (await client.call("GET", "/livez")).status == 200
        ways[name].open.set()
        await until_ready(client)


async def test_a_broker_that_confirms_nothing_is_noticed_and_so_is_its_return(alone: Stack) -> None:
    async with way_to(alone.vhost) as rabbitmq:
        alone.worker()
        client = await asyncio.to_thread(alone.gateway, amqp_url=rabbitmq.url)
        await until_ready(client)
        rabbitmq.confirms = False
        async with asyncio.timeout(NAMED_S_MAX):
            while (told := await client.call("GET", "/readyz")).status == 200:
                await asyncio.sleep(0.1)
        assert told.body["missing"] == {"rabbitmq": "it does not answer"}
        account = {"id": "unconfirmed", "asset": "USD"}
        assert (await client.post("/v1/accounts", account, key="a", prefer="wait=1")).status in {201, 504}
        assert (await client.call("GET", "/v1/assets")).status == 200
        rabbitmq.confirms = True
        await until_ready(client)
        assert (await client.post("/v1/accounts", account, key="a", prefer="wait=20")).status == 201


async def test_a_read_from_a_silent_database_is_unavailable_within_its_one_deadline(alone: Stack) -> None:
    async with way_to(alone.database.gateway) as postgres:
        alone.worker()
        client = await asyncio.to_thread(alone.gateway, database_url=postgres.url)
        await client.get("/v1/accounts")
        postgres.open.clear()
        # More than the pool has connections: who waits for one has the same deadline.
        answers = await asyncio.gather(*(timed(client, "/v1/accounts") for _ in range(20)))
        for told, seconds in answers:
            assert (told.status, told.headers["Retry-After"]) == (503, "1")
            assert told.code in {"unavailable", "overloaded"}  # who waited for his turn in vain gets the second
            assert seconds < READ_ANSWER_S_MAX
        postgres.open.set()
        await until_ready(client)
        await client.get("/v1/accounts")
