"""`tellerline verify` passes what the worker wrote, and names the first bad row of whatever was tampered with."""

import asyncio
import re
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import asdict

import pytest

from shared.db import Connection, connect
from tellerline.verification.findings import Violation
from tellerline.verification.proof import Proof, prove
from tellerline.verification.store import snapshot
from tests.backends.databases import Database, Databases
from tests.integration.tampering import CASES, Case
from tests.journal_scenario import Scenario
from tests.journal_writer import JournalWriter

# What the owner of a database can take away: every rule of the tables themselves.
UNGUARD = """
DO $$
DECLARE rule record;
BEGIN
    FOR rule IN SELECT conrelid::regclass AS place, conname FROM pg_constraint
                 WHERE connamespace = 'ledger'::regnamespace AND conrelid <> 0 AND contype IN ('c', 'p') LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', rule.place, rule.conname);
    END LOOP;
    FOR rule IN SELECT contypid::regtype AS place, conname FROM pg_constraint
                 WHERE connamespace = 'ledger'::regnamespace AND contypid <> 0 LOOP
        EXECUTE format('ALTER DOMAIN %s DROP CONSTRAINT %I', rule.place, rule.conname);
    END LOOP;
    DROP INDEX ledger.operations_place;
    ALTER TABLE ledger.entries DISABLE TRIGGER ALL;
END $$
"""


@pytest.fixture(scope="module")
def ledger(databases: Databases) -> Generator[Database]:
    with databases.clone() as database:
        yield database


@pytest.fixture(scope="module")
def scenario(ledger: Database) -> Scenario:
    scenario = Scenario()

    async def write() -> None:
        async with JournalWriter(ledger) as writer:
            await scenario.write(writer)

    asyncio.run(write())
    return scenario


@asynccontextmanager
async def tampered(ledger: Database, statement: str) -> AsyncGenerator[Connection]:
    """Sees the journal after the statement; nobody else ever does."""
    connection = await connect(ledger.owner, application="tests", command_timeout_s=30)
    try:
        await connection.execute("BEGIN")
        await connection.execute(UNGUARD)
        await connection.execute(statement)
        yield connection
    finally:
        await connection.close()  # rolls back


async def proof_of(connection: Connection) -> Proof:
    return await prove(connection, lambda _: None)


async def test_an_honest_journal_holds(ledger: Database, scenario: Scenario) -> None:
    async with snapshot(ledger.verify) as connection:
        proof = await proof_of(connection)
    assert proof.first_violation is None
    assert proof.checked["entries"] == 36
    assert proof.checked["unsettled"] == 1
    assert all(
        proof.checked[table] for table in ("batches", "operations", "transit", "settlements", "holds", "hold_ends")
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_tampered_row_is_named(ledger: Database, scenario: Scenario, case: Case) -> None:
    names = {name: str(value) for name, value in asdict(scenario).items() if name != "commands"}
    async with tampered(ledger, case.statement.format(**names)) as connection:
        proof = await proof_of(connection)
    found = proof.first_violation
    assert isinstance(found, Violation), "nothing was found"
    place = f"{found.table} {found.key}"
    assert re.match(case.found.format(**names), place), f"{found}"
    assert found.expected != found.found
