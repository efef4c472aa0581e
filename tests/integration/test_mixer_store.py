"""The mixer's tables: each role may run its own statements, and the database refuses what does not add up."""

import importlib
import itertools
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from services.deposit_poller.store.sweeps import SweepStore
from services.distributor.store.credits import CreditStore
from services.distributor.store.payouts import PayoutStore
from shared.database import postgres
from shared.mixer.store import ClaimStore
from tests.backends.databases import Database, Databases

STORES: dict[str, tuple[tuple[str, ...], tuple[type[ClaimStore[Any]], ...]]] = {
    "poller": (
        tuple(f"services.deposit_poller.store.{noun}" for noun in ("decisions", "deposits", "mixes", "sweeps")),
        (SweepStore,),
    ),
    "distributor": (
        tuple(f"services.distributor.store.{name}" for name in ("credits", "decisions", "payouts")),
        (CreditStore, PayoutStore),
    ),
}
COMMANDS = {"mixer.sweeps": ["credit"], "payouts.credits": ["fee"], "payouts.payouts": ["hold", "capture"]}


def statements_of(module: str) -> Iterator[tuple[str, str]]:
    """The statements of a module with their names."""
    for name, statement in vars(importlib.import_module(module)).items():
        if name.isupper() and isinstance(statement, str) and re.match(r"\s*(SELECT|INSERT|UPDATE|WITH)\b", statement):
            yield name, statement


def statements_on(store: type[ClaimStore[Any]]) -> Iterator[tuple[str, str]]:
    """Those that all claimed tables share."""
    for name, statement in statements_of("shared.mixer.store"):
        if "{command}" in statement:
            yield from ((f"{name}.{each}", store.sql(statement, each)) for each in COMMANDS[store.table])
        elif hasattr(store, "intents") or "{of.intents}" not in statement:
            yield name, store.sql(statement)


STATEMENTS = [
    pytest.param(role, statement, id=f"{role}.{name}")
    for role, (modules, stores) in STORES.items()
    for name, statement in itertools.chain(*map(statements_of, modules), *map(statements_on, stores))
]
# Who is there: no money, and a process that ends on purpose takes its row back.
PRESENCE = {"ledger.workers", "mixer.processes"}
OWN_TABLES = {
    "poller": {
        "mixer.mixes",
        "mixer.list_cursors",
        "mixer.deposits",
        "mixer.sweeps",
        "mixer.sweep_intents",
        "mixer.journal_cursors",
        "mixer.decisions",
        "mixer.processes",
    },
    "distributor": {
        "payouts.cursors",
        "payouts.credits",
        "payouts.payouts",
        "payouts.intents",
        "payouts.decisions",
        "mixer.processes",
    },
    "gateway": set[str](),
    "worker": set[str](),
    "verify": set[str](),
}
TABLES = (
    "SELECT format('%s.%s', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('ledger', 'mixer', 'payouts')"
)
ADDRESS = "0123456789abcdef0123456789abcdef"


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[postgres.Connection]:
    connection = await postgres.connect(database.owner, application="tests")
    yield connection
    await connection.close()


@pytest.mark.parametrize(("role", "statement"), STATEMENTS)
async def test_every_statement_is_one_that_its_role_may_run(databases_of: Database, role: str, statement: str) -> None:
    connection = await postgres.connect(getattr(databases_of, role), application="tests")
    try:
        await connection.prepare(statement)
        # The rights are checked when it is planned with its values: a plan for any values will do.
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        count = len((await connection.prepare(statement)).get_parameters())
        await connection.execute(f"PREPARE tried AS {statement}")
        await connection.execute(f"EXPLAIN EXECUTE tried{'(' + ', '.join(['NULL'] * count) + ')' if count else ''}")
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def databases_of(databases: Databases) -> Iterator[Database]:
    """One database for all that change nothing."""
    with databases.clone() as database:
        yield database


@pytest.mark.parametrize("role", sorted(OWN_TABLES))
async def test_a_role_writes_its_own_tables_and_erases_nothing(owner: postgres.Connection, role: str) -> None:
    name = f"tellerline_{role}"
    for (table,) in await owner.fetch(TABLES):
        schema = str(table).partition(".")[0]
        erases = await owner.fetchval("SELECT has_table_privilege($1, $2, 'DELETE, TRUNCATE')", name, table)
        assert not erases or table in PRESENCE, table
        if schema == "ledger":
            continue
        writes = await owner.fetchval(
            "SELECT has_table_privilege($1, $2, 'INSERT') OR has_any_column_privilege($1, $2, 'UPDATE')", name, table
        )
        assert writes == (table in OWN_TABLES[role]), table


async def credit(owner: postgres.Connection, amount: int) -> tuple[str, str]:
    """A mix with one credit; their ids."""
    mix, order, operation = (str(uuid.uuid4()) for _ in range(3))
    await owner.execute(
        "INSERT INTO mixer.mixes"
        " (id, operation_id, fingerprint, owner, deposit_address, destinations, fee_ppm, delay_ms_min, delay_ms_max)"
        " VALUES ($1, $2, $4, 'p', $3, '{a}', 0, 0, 0)",
        mix,
        order,
        ADDRESS,
        bytes(16),
    )
    await owner.execute("INSERT INTO payouts.credits (id, mix_id, amount) VALUES ($1, $2, $3)", operation, mix, amount)
    return mix, operation


async def write_plan(owner: postgres.Connection, mix: str, operation: str, fee: int, *amounts: int) -> None:
    async with owner.transaction():
        for number, amount in enumerate(amounts, start=1):
            await owner.execute(
                "INSERT INTO payouts.payouts (id, credit_id, mix_id, number, destination, amount, due_at, next_at)"
                " VALUES (gen_random_uuid(), $1, $2, $3, 'a', $4, now(), now())",
                operation,
                mix,
                number,
                amount,
            )
        await owner.execute("UPDATE payouts.credits SET state = 'planned', fee = $2 WHERE id = $1", operation, fee)


@pytest.mark.parametrize("amounts", [(60, 29), (60, 31), (), (60, 30, 10)])
async def test_the_database_refuses_a_plan_that_does_not_add_up(
    owner: postgres.Connection, amounts: tuple[int, ...]
) -> None:
    mix, operation = await credit(owner, 100)
    with pytest.raises(asyncpg.PostgresError, match="add up"):
        await write_plan(owner, mix, operation, 10, *amounts)
    assert await owner.fetchval("SELECT count(*) FROM payouts.payouts") == 0
    await write_plan(owner, mix, operation, 10, 60, 30)


async def test_two_equal_transfers_are_never_under_way_together(owner: postgres.Connection) -> None:
    mix, operation = await credit(owner, 100)
    await write_plan(owner, mix, operation, 0, 50, 50)
    payouts = [row["id"] for row in await owner.fetch("SELECT id FROM payouts.payouts")]
    statement = (
        "INSERT INTO payouts.intents (id, payout_id, leg, attempt, source, destination, amount_units, settles_at)"
        " VALUES (gen_random_uuid(), $1, 'pay', 1, 'x', 'a', 50, now())"
    )
    await owner.execute(statement, payouts[0])
    with pytest.raises(asyncpg.UniqueViolationError):
        await owner.execute(statement, payouts[1])
    await owner.execute("UPDATE payouts.intents SET ended = 'absent'")
    await owner.execute(statement, payouts[1])
