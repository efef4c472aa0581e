"""A long history on the simulated network: quick to start and to list, in bounded memory, and free to ask for again."""

import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from services.jobcoin_network.core.coins import read_amount
from services.jobcoin_network.core.instances import ALICE, creation
from services.jobcoin_network.core.transactions import CoinAddress, CoinMovement, InstanceName, Transaction
from services.jobcoin_network.store import SqliteStore
from tests.integration.jobcoin import API, NetworkProcess, client_of, running

ROWS = 500_000
PUPPY, NOW_MS = InstanceName("puppy"), 1_700_000_000_000
LIST_S_MAX = 2.0
START_S_MAX = 15.0
BYTES_MAX = 400 * 2**20


def history() -> Iterator[Transaction]:
    """Half a million rows, to as many addresses."""
    yield Transaction(PUPPY, 0, NOW_MS, creation(ALICE))
    for place in range(1, ROWS):
        movement = CoinMovement(ALICE, CoinAddress(f"{place:032x}"), read_amount(f"0.00000{place:06}1"))
        yield Transaction(PUPPY, place, NOW_MS + place, movement)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkProcess]:
    folder: Path = tmp_path_factory.mktemp("jobcoin")
    store = SqliteStore(folder)
    store.commit(history())
    store.close()
    started_s = time.monotonic()
    with running(folder) as network:
        assert time.monotonic() - started_s < START_S_MAX
        yield network


async def read(session: aiohttp.ClientSession, **headers: str) -> tuple[int, int, str, float]:
    """Status, bytes, ETag and seconds of one reading of the list."""
    started_s, size = time.monotonic(), 0
    async with session.get(f"{API}/transactions", headers=headers) as response:
        async for chunk in response.content.iter_any():
            size += len(chunk)
    return response.status, size, response.headers["ETag"], time.monotonic() - started_s


async def test_half_a_million_rows_are_listed_quickly_in_bounded_memory_and_not_again(network: NetworkProcess) -> None:
    process = psutil.Process(network.process.pid)
    async with client_of(network) as client:
        readings = [await read(client.session) for _ in range(3)]
        assert {reading[:2] for reading in readings} == {(200, readings[0][1])}
        assert readings[0][1] > 60_000_000
        assert min(seconds for *_, seconds in readings) < LIST_S_MAX
        assert process.memory_info().rss < BYTES_MAX
        status, size, _, seconds = await read(client.session, **{"If-None-Match": readings[0][2]})
        assert (status, size) == (304, 0)
        assert seconds < 0.1
        assert (await client.send("Alice", "one more", "0.001"))[0] == 200
        status, size, _, _ = await read(client.session, **{"If-None-Match": f'W/{readings[0][2]}, "other"'})
        assert (status, size > readings[0][1]) == (200, True)
        assert await client.balance(f"{ROWS - 1:032x}") == f"0.00000{ROWS - 1:06}1"
