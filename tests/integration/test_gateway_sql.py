"""Every statement of the gateway is one that its role may run, and the ones that page use an index."""

import importlib
import pkgutil

import asyncpg
import pytest

import services.gateway.store
from shared.database.postgres import BY_KEY, connect
from tests.backends.databases import Database

MODULES = [
    importlib.import_module(f"{services.gateway.store.__name__}.{module.name}")
    for module in pkgutil.iter_modules(services.gateway.store.__path__)
]
STATEMENTS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": value
    for module in MODULES
    for name, value in vars(module).items()
    if not name.startswith("_")  # parts of statements
    and isinstance(value, str)
    and value.lstrip().startswith(("SELECT", "INSERT", "UPDATE", "WITH"))
}


def test_the_statements_of_the_gateway_were_found() -> None:
    assert len(STATEMENTS) >= 18


@pytest.mark.parametrize("name", STATEMENTS)
async def test_every_statement_can_be_prepared_by_the_role_that_runs_it(database: Database, name: str) -> None:
    connection = await connect(database.gateway, application="tests")
    try:
        prepared = await connection.prepare(STATEMENTS[name])
        await prepared.explain(*[None for _ in prepared.get_parameters()])
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO ledger.assets (code, scale, name) VALUES ('X', 1, 'x')",
        "UPDATE ledger.accounts SET status = 'open'",
        "DELETE FROM ledger.entries",
        "UPDATE access.keys SET scopes = ARRAY['admin']",
        "DELETE FROM access.keys",
        "UPDATE mixer.mixes SET fee_ppm = 0",
    ],
)
async def test_the_gateway_may_write_nothing_but_keys(database: Database, statement: str) -> None:
    connection = await connect(database.gateway, application="tests")
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


FILL = """
INSERT INTO ledger.batches (partition, batch, epoch, operations, entries, recorded_at, cursors, prev_hash,
                            content_hash, hash)
SELECT 0, n, 1, 1, 2, '2026-01-01'::timestamptz + n * interval '1 second', '{}', '', '', sha256(n::text::bytea)
  FROM generate_series(1, 1000) n;
INSERT INTO ledger.entries (account_id, seq, asset, delta, held_delta, balance_after, held_after, limit_after,
                            status_after, partition, batch, line)
SELECT account, n, 'USD', delta, 0, delta * n, 0, 0, 'open', 0, 1 + (n - 1) / 3, 0
  FROM generate_series(1, 2000) n, (VALUES ('a', 1), ('world:USD:0', -1)) AS pair (account, delta);
"""


@pytest.mark.parametrize("batch", [0, 1, 2, 333, 600, 666, 667, 668, 5_000])
async def test_the_search_finds_the_last_entry_up_to_a_batch(database: Database, batch: int) -> None:
    connection = await connect(database.owner, application="tests")
    try:
        await connection.execute(FILL)
        found = await connection.fetchval("SELECT ledger.seq_until('a', $1)", batch)
        counted = await connection.fetchval(
            "SELECT count(*) FROM ledger.entries WHERE account_id = 'a' AND batch <= $1", batch
        )
        assert found == counted
        until = "SELECT ledger.batch_until(0, '2026-01-01'::timestamptz + $1 * interval '1 second')"
        assert await connection.fetchval(until, batch) == min(batch, 1_000)
    finally:
        await connection.close()


UUID = "00000000-0000-8000-8000-000000000000"
EVER = "-infinity", "infinity"
LISTED = (
    False,
    "alice",
    "owner:alice",
    "",
    "{transfer.v1,deposit.v1}",
    *EVER,
    "infinity",
    0,
    0,
    50,
    None,
)
PAGES = {
    "transactions.READ_TRANSACTION": (True, "a", UUID),
    "outcomes.READ_RECORDED": ("{t}", "{a}", f"{{{UUID}}}"),
    "transaction_lists.LIST_TRANSACTIONS": LISTED[:-1],
    "transaction_lists.LIST_OF_ASSET": LISTED,
    "transaction_lists.LIST_OF_ACCOUNT": (*LISTED, "a"),
    "entries.LIST_ENTRIES": ("a", 0, 2**62, None, None, 50),
    "entries.LIST_ENTRIES_OF_KIND": ("a", 2**62, *EVER, "transfer.v1", 50),
    "accounts.LIST_ACCOUNTS": ("", "", "z", "{open}", 50),
    "accounts.LIST_ACCOUNTS_OF_OWNER": ("", "", "z", "{open}", 50, "alice"),
    "accounts.LIST_ACCOUNTS_OF_ASSET": ("", "", "z", "{open}", 50, "USD"),
    "accounts.LIST_ACCOUNTS_OF_OWNER_IN_ASSET": ("", "", "z", "{open}", 50, "alice", "USD"),
    "accounts.READ_BALANCE_AT": ("a", 0, "2026-01-01T00:05:00Z"),
}


@pytest.mark.parametrize("name", PAGES)
async def test_what_pages_reads_no_table_of_the_journal_whole(database: Database, name: str) -> None:
    connection = await connect(database.owner, application="tests", settings=BY_KEY)
    try:
        await connection.execute(FILL)
        await connection.execute("ANALYZE")
        arguments = ", ".join("NULL" if each is None else f"'{each}'" for each in PAGES[name])
        await connection.execute(f"PREPARE page AS {STATEMENTS[name]}")
        lines = await connection.fetch(f"EXPLAIN EXECUTE page ({arguments})")
        plan = "\n".join(str(line[0]) for line in lines)
        for table in ("entries", "batches", "operations", "listed", "accounts"):
            assert f"Seq Scan on {table}" not in plan, plan
        assert "batches_recorded_at" not in plan, f"reads all batches between two instants\n{plan}"
    finally:
        await connection.close()
