"""No statement of the product costs more as a table grows: each reads a bounded number of blocks of large tables.

Plans are generic ones, as a connection uses them from a statement's sixth execution on.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest

from services.ledger_worker.store.connections import BY_KEY
from shared.database import postgres
from shared.database.postgres import Connection, connect
from tests.backends.databases import Database, Databases
from tests.backends.large_tables import FILL_MAX_S, ROWS, large_ledger
from tests.integration.statement_uses import USES, Use
from tests.statements import STATEMENTS

# So long may one statement take on tables that are larger than those of every run (`make soak`).
SOAK_MS_MAX: Final = 50.0


@pytest.fixture(scope="module")
def large(databases: Databases) -> Iterator[Database]:
    with large_ledger(databases) as database:
        yield database


@pytest.mark.timeout(FILL_MAX_S)  # the first of them fills the tables
@pytest.mark.parametrize(
    ("name", "number"), [(name, number) for name, uses in USES.items() for number in range(len(uses))]
)
async def test_a_statement_reads_few_blocks_of_large_tables(large: Database, name: str, number: int) -> None:
    use = USES[name][number]
    connection = await connect(large.owner, application="tests", settings=settings_of(name))
    try:
        await connection.execute(f"PREPARE statement AS {STATEMENTS[name]}")
        await explained(connection, use)  # a session's first execution also reads the catalog
        plan = await explained(connection, use)
    finally:
        await connection.close()
    root = plan["Plan"]
    shown = json.dumps(root, indent=1)
    assert root["Shared Hit Blocks"] + root["Shared Read Blocks"] <= use.blocks_max, shown
    assert not use.must_find or rows_of(root) > 0, f"finds nothing, so it proves nothing\n{shown}"
    if ROWS > 1_000_000:
        assert plan["Execution Time"] <= SOAK_MS_MAX, shown


def settings_of(name: str) -> Mapping[str, str]:
    """The session's settings when this statement is executed."""
    settings = {"plan_cache_mode": "force_generic_plan", "jit": "off"}
    if name.startswith("services.gateway."):
        return {**settings, **postgres.BY_KEY}
    return {**settings, **BY_KEY} if name.startswith("services.ledger_worker.") else settings


async def explained(connection: Connection, use: Use) -> Mapping[str, Any]:
    """Executes what was prepared in a transaction that is rolled back, with what EXPLAIN measures."""
    arguments = ", ".join(literal(argument) for argument in use.arguments)
    transaction = connection.transaction()
    await transaction.start()
    try:
        execute = f"EXECUTE statement ({arguments})" if use.arguments else "EXECUTE statement"
        [row] = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {execute}")
    finally:
        await transaction.rollback()
    return json.loads(row[0])[0]


def literal(argument: str | int | None) -> str:
    """As SQL writes it."""
    return "NULL" if argument is None else "'" + str(argument).replace("'", "''") + "'"


def rows_of(node: Mapping[str, Any]) -> int:
    """Rows that the statement returns, or that it changes without returning them."""
    if node["Node Type"] == "ModifyTable" and not node["Actual Rows"]:
        return max((int(child["Actual Rows"]) for child in node.get("Plans", [])), default=0)
    return int(node["Actual Rows"])
