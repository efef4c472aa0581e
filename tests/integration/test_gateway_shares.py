"""Slow reads and unknown keys cost those who send them, and nobody else."""

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from http.client import HTTPConnection
from urllib.parse import urlsplit

import aiohttp

from shared.database.postgres import connect
from tests.integration.conftest import Served
from tests.integration.gateway import Client

Name = Callable[[str], str]

SLOW_READERS = 16
SHARE = 4
PROMPT_S = 1.5
UNKNOWN_PAUSE_S = 0.004
MEASURED = 200
TRIES = 3
BLOCKED = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%FROM mixer.mix_heads%'
"""


@asynccontextmanager
async def mixes_locked(served: Served) -> AsyncGenerator[None]:
    """Whoever lists mixes waits: a list that takes too long."""
    connection = await connect(served.stack.database.owner, application="tests")
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE mixer.mixes IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def blocked(served: Served) -> int:
    count = await served.stack.execute(BLOCKED)
    assert isinstance(count, int)
    return count


async def test_slow_reads_of_a_caller_hold_up_neither_others_nor_writes_nor_readiness(
    served: Served, name: Name
) -> None:
    api = served.stack.gateway()
    slow = Client(api.url, await served.stack.key(name("slow"), "read"))
    other = Client(api.url, await served.stack.key(name("other"), "read", "write"))
    account, target = await other.account(name("a")), await other.account(name("b"))
    await api.made("/v1/deposits", {"account": account, "amount": "1000000", "asset": "USD"})
    transfer = {"source": account, "destination": target, "amount": "1", "asset": "USD"}
    async with mixes_locked(served), asyncio.TaskGroup() as group:
        began = time.monotonic()
        slow_ones = [group.create_task(slow.call("GET", "/v1/mixes")) for _ in range(SLOW_READERS)]
        while await blocked(served) < SHARE:
            await asyncio.sleep(0.01)
        while time.monotonic() - began < 3:  # longer than any key is trusted
            for call in (
                other.post("/v1/transfers", transfer),
                other.call("GET", f"/v1/accounts/{account}/balance"),
                api.call("GET", "/readyz"),
                slow.call("GET", "/v1/me-or-nothing"),
            ):
                asked = time.monotonic()
                assert (await call).status in {200, 201, 404}
                assert time.monotonic() - asked < PROMPT_S
            assert await blocked(served) <= SHARE
        assert {(await each).status for each in slow_ones} == {503}
        given_up = time.monotonic()
        while await blocked(served):
            assert time.monotonic() - given_up < 2
            await asyncio.sleep(0.02)
    assert (await slow.call("GET", "/v1/mixes")).status == 200


@contextmanager
def flooded(url: str, answers: list[int]) -> Generator[None]:
    """Unknown keys meanwhile, each another one, from a thread of its own."""
    parts, ended = urlsplit(url), threading.Event()

    def flood() -> None:
        connection = HTTPConnection(str(parts.hostname), parts.port)
        while not ended.wait(UNKNOWN_PAUSE_S):
            connection.request("GET", "/v1/assets", headers={"Authorization": f"Bearer {secrets.token_urlsafe(32)}"})
            with connection.getresponse() as answer:
                answer.read()
                answers.append(answer.status)
        connection.close()

    with ThreadPoolExecutor() as pool:
        running = pool.submit(flood)
        try:
            yield
        finally:
            ended.set()
        running.result()


async def p99_s(client: Client, path: str) -> float:
    taken: list[float] = []
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {client.key}"}) as session:
        for _ in range(MEASURED):
            asked = time.perf_counter()
            async with session.get(client.url + path) as answer:
                assert answer.status == 200
            taken.append(time.perf_counter() - asked)
            await asyncio.sleep(0.002)
    return sorted(taken)[-MEASURED // 100 - 1]


async def test_a_flood_of_unknown_keys_is_429_and_slows_no_other_key(served: Served, name: Name) -> None:
    api = served.stack.gateway(failures_burst_max="20", failures_per_s_max="1")
    good = Client(api.url, await served.stack.key(name("good"), "read"))
    ratios: list[float] = []
    answers: list[int] = []
    for _ in range(TRIES):
        quiet_s = await p99_s(good, "/v1/assets")
        with flooded(api.url, answers):
            # What the clock of a busy machine cannot tell apart counts as the same.
            ratios.append(await p99_s(good, "/v1/assets") / max(quiet_s, 0.01))
        if ratios[-1] < 2:
            break
    assert ratios[-1] < 2, ratios
    assert set(answers) == {401, 429}


async def test_a_key_is_refused_within_a_second_of_its_end_during_a_flood(served: Served, name: Name) -> None:
    api = served.stack.gateway()
    client = Client(api.url, await served.stack.key(name("p"), "read"))
    answers: list[int] = []
    await client.get("/v1/assets")
    with flooded(api.url, answers):
        while 429 not in answers:
            await client.get("/v1/assets")
        identity = client.key.split("_")[1]
        await served.stack.execute("UPDATE access.keys SET revoked_at = clock_timestamp() WHERE id = $1", identity)
        ended = time.monotonic()
        while (told := await client.call("GET", "/v1/assets")).status == 200:
            assert time.monotonic() - ended < 1.2
        assert told.code in {"unauthenticated", "rate_limited"}
