"""A migration that changes tables while they are read and written costs no client an answer."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.backends.databases import Database
from tests.integration.gateway import Client, Stack, stack

CLIENTS = 6
MORE = 40
# As a migration does. A prepared statement that returns a column of another type fails once more ("cached plan must not
# change result type"). The columns that are added are of tables that the hot path writes.
CHANGES = (
    "ALTER TABLE access.keys ALTER COLUMN principal TYPE varchar(200)",
    "ALTER TABLE ledger.operations ALTER COLUMN reference TYPE varchar(1000)",
    "ALTER TABLE ledger.operations ALTER COLUMN metadata TYPE varchar(100000)",
    "ALTER TABLE ledger.assets ALTER COLUMN name TYPE varchar(1000)",
    "ALTER TABLE ledger.transit ALTER COLUMN credits TYPE varchar(10000000)",
    "ALTER TABLE ledger.operations ADD COLUMN added text",
    "ALTER TABLE ledger.entries ADD COLUMN added text",
    "ALTER TABLE ledger.accounts ADD COLUMN added text",
)


@pytest.fixture
def alone(database: Database, vhost: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A ledger of its own, whose tables may change."""
    with stack(database, vhost, tmp_path_factory.mktemp("migrations")) as running:
        yield running


async def test_tables_that_change_under_load_cost_no_answer(alone: Stack) -> None:
    alone.worker()
    admin = await asyncio.to_thread(alone.gateway)
    keyed = Client(admin.url, await alone.key("somebody", "read", "write"))
    await admin.account("alice", funds="1000000", owner="somebody")
    await admin.account("bob", owner="somebody")
    statuses: Counter[tuple[str, int]] = Counter()
    stopping = asyncio.Event()

    async def play(number: int) -> None:
        turn = 0
        while not stopping.is_set():
            turn += 1
            transfer = {"source": "alice", "destination": "bob", "amount": "0.01", "asset": "USD", "reference": "r"}
            told = await keyed.post("/v1/transfers", transfer, key=f"{number}-{turn}", prefer="wait=20")
            statuses["transfer", told.status] += 1
            made = told.headers["Operation-Id"]
            for path in (f"/v1/transactions/{made}", f"/v1/operations/{made}", "/v1/assets", "/v1/accounts/bob"):
                statuses[path.split("/")[2], (await keyed.call("GET", path)).status] += 1
            statuses["list", (await keyed.call("GET", "/v1/transactions?account=alice&limit=5")).status] += 1

    async def more() -> None:
        wanted = statuses.total() + MORE * CLIENTS
        async with asyncio.timeout(60):
            while statuses.total() < wanted:
                await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(play(number))
        await more()  # by now every connection has prepared its statements
        for change in CHANGES:
            await alone.execute(change)
            await more()
        stopping.set()
    assert {status for _, status in statuses} == {200, 201}, statuses
