"""No statement of the product costs more as a table grows: each reads a bounded number of blocks of large tables.

Plans are generic ones, as a connection uses them from a statement's sixth execution on.
"""

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

import services
import shared
import tellerline
from services.deposit_poller.store import DepositStore
from services.distributor.store import CreditStore, PayoutStore
from services.ledger_worker.store.connections import BY_KEY
from shared.database.postgres import Connection, connect
from shared.mixer.store import ClaimStore, IntentStore
from tests.backends.databases import Database, Databases
from tests.backends.large_tables import ROWS, large_ledger
from tests.integration.statement_uses import NOT_MEASURED, USES, Use

STATEMENT: Final = re.compile(r"\s*(?:SELECT|INSERT|UPDATE|DELETE|WITH)\b")
# So long may one statement take on tables that are larger than those of every run (`make soak`).
SOAK_MS_MAX: Final = 50.0
# A command of each table whose attempts are counted.
ATTEMPTS_OF: Final = {"mixer.deposits": "credit", "payouts.credits": "fee", "payouts.payouts": "hold"}
STORES: Final[Sequence[type[ClaimStore[Any]]]] = (DepositStore, CreditStore, PayoutStore)


def constants() -> Iterator[tuple[str, str]]:
    """Name and text of every SQL statement that is a public constant of a module which defines it."""
    for package in (services, shared, tellerline):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name.endswith("__main__"):
                continue
            module = importlib.import_module(found.name)
            for name, value in vars(module).items():
                is_defined_here = re.search(rf"^{name}\b.*=", source(found.name), re.MULTILINE) is not None
                if isinstance(value, str) and STATEMENT.match(value) and is_defined_here and not name.startswith("_"):
                    yield f"{found.name}.{name}", value


@cache
def source(module: str) -> str:
    """The module's text."""
    return Path(str(importlib.import_module(module).__file__)).read_text(encoding="utf-8")


def written_out(name: str, text: str) -> Iterator[tuple[str, str]]:
    """The statement, or what becomes of a template for each table."""
    if "{of." not in text:
        yield name, text
        return
    for store in STORES:
        if "{of.intents}" in text and not issubclass(store, IntentStore):
            continue
        yield f"{name}@{store.table}", store.sql(text, ATTEMPTS_OF[store.table])


STATEMENTS: Final[Mapping[str, str]] = dict(
    written for name, text in constants() for written in written_out(name, text)
)


def is_excepted(name: str) -> bool:
    return any(name == excepted or name.startswith((f"{excepted}.", f"{excepted}@")) for excepted in NOT_MEASURED)


def test_every_statement_has_its_uses_or_a_reason_why_it_is_not_measured() -> None:
    assert len(STATEMENTS) >= 90
    assert not [name for name in STATEMENTS if name not in USES and not is_excepted(name)], "add them to USES"
    assert not [name for name in USES if name not in STATEMENTS], "there is no such statement"
    unused = [
        each for each in NOT_MEASURED if not any(name == each or name.startswith(f"{each}") for name in STATEMENTS)
    ]
    assert not unused


@pytest.fixture(scope="module")
def large(databases: Databases) -> Iterator[Database]:
    with large_ledger(databases) as database:
        yield database


@pytest.mark.timeout(900)  # the first of them fills the tables
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
