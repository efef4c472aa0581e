"""/readyz tells the truth about all of the stack: what is stopped, gone or read-only is named within 15 seconds."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from shared.database.postgres import connect
from tests.backends.databases import Database
from tests.integration.gateway import Client, Stack, stack
from tests.integration.mixer_stage import Stage

NAMED_S_MAX = 15.0
WRITES_S_MAX = 10.0
pytestmark = pytest.mark.timeout(180)
CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture
def beside(database: Database, broker: str, tmp_path: Path) -> Iterator[Stack]:
    """For a gateway beside it."""
    (tmp_path / "gateway").mkdir()
    with stack(database, broker, tmp_path / "gateway") as running:
        yield running


@pytest.fixture
async def client(mixer: Stage, beside: Stack) -> Client:
    """A gateway that is ready, beside one process of each service."""
    _, _, client = await asyncio.gather(
        asyncio.to_thread(mixer.start, "deposit_poller"),
        asyncio.to_thread(mixer.start, "distributor"),
        asyncio.to_thread(beside.gateway),
    )
    await until_missing(client)
    return client


async def missing(client: Client) -> dict[str, str]:
    return cast("dict[str, str]", (await client.call("GET", "/readyz")).body["missing"])


async def until_missing(client: Client, *names: str) -> dict[str, str]:
    """Waits until exactly these are missing, for NAMED_S_MAX at most."""
    async with asyncio.timeout(NAMED_S_MAX):
        while (found := await missing(client)).keys() != set(names):
            await asyncio.sleep(0.1)
    return found


async def test_a_process_that_is_stopped_or_gone_is_named_and_one_that_ended_on_purpose_is_not(
    client: Client, mixer: Stage
) -> None:
    by_name = {process.name: process for process in mixer.processes}
    for process in mixer.processes:
        process.popen.send_signal(signal.SIGSTOP)
    found = await until_missing(client, "partitions", "deposit_poller", "distributor")
    assert all("nothing was heard for" in why for why in found.values())
    for process in mixer.processes:
        process.popen.send_signal(signal.SIGCONT)
    await until_missing(client)
    assert await asyncio.to_thread(by_name["distributor"].stop) == 0
    assert await asyncio.to_thread(by_name["ledger_worker"].stop) == 0
    assert await until_missing(client, "partitions") == {"partitions": "0, 1, 2, 3: no worker owns it"}
    await asyncio.to_thread(mixer.start, "ledger_worker")
    await until_missing(client)
    by_name["deposit_poller"].kill()
    await until_missing(client, "deposit_poller")
    await asyncio.to_thread(mixer.start, "deposit_poller")
    await until_missing(client)


async def test_a_database_that_was_read_only_for_a_while_ends_no_process_and_is_written_again(
    client: Client, mixer: Stage, beside: Stack
) -> None:
    assert (await client.post("/v1/accounts", {"id": "alice", "asset": "USD"}, prefer="wait=20")).status == 201
    name = beside.database.name
    await beside.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    await beside.execute(CUT)
    async with asyncio.timeout(NAMED_S_MAX):
        while "partitions" not in (found := await missing(client)):
            await asyncio.sleep(0.1)
    assert found["postgres"] == "it is read-only"
    assert (await client.call("GET", "/v1/accounts/alice")).status == 200
    owner = await connect(beside.database.owner, application="tests", settings={"default_transaction_read_only": "off"})
    await owner.execute(f'ALTER DATABASE "{name}" RESET ALL')
    await owner.close()
    began_s = time.monotonic()
    deposit = {"account": "alice", "amount": "1", "asset": "USD"}
    while (told := await client.post("/v1/deposits", deposit, key="a", prefer="wait=1")).status != 201:
        assert time.monotonic() - began_s < WRITES_S_MAX, told
    await until_missing(client)
    assert [process.popen.poll() for process in mixer.processes] == [None] * 3
    assert (await client.get("/v1/accounts/alice"))["balance"] == "1"
