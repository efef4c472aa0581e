"""`tellerline verify` passes what the worker wrote, and names the first bad row of whatever was tampered with."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from random import Random

import pytest

from shared.database.postgres import Connection, connect
from tellerline.verification.findings import Violation
from tellerline.verification.proof import Proof, prove
from tellerline.verification.store import batches
from tellerline.verification.store.accounts import ACCOUNT_LINES, READ_CHANGED_ACCOUNT
from tellerline.verification.store.ledger import READ_WAITING
from tellerline.verification.store.snapshot import snapshot
from tests.backends.databases import Database, Databases
from tests.backends.servers import PostgresServer
from tests.builders import Commands, account_in
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
    assert proof.checked["entries"] == 40
    assert proof.checked["unsettled"] == 1
    assert proof.open_findings == 1
    assert all(
        proof.checked[table] for table in ("batches", "operations", "transit", "settlements", "holds", "hold_ends")
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_tampered_row_is_named(ledger: Database, scenario: Scenario, case: Case) -> None:
    names = {each.name: str(getattr(scenario, each.name)) for each in fields(scenario) if each.name != "commands"}
    async with tampered(ledger, case.statement.format(**names)) as connection:
        proof = await proof_of(connection)
    found = proof.first_violation
    assert isinstance(found, Violation), "nothing was found"
    place = f"{found.table} {found.key}"
    assert re.match(case.found.format(**names), place), f"{found}"
    assert found.expected != found.found


async def test_a_journal_that_is_being_written_gives_no_false_alarm(database: Database) -> None:
    """Batches, transit rows and settlements come in while verify reads; many batches, so that 10 follows 9."""
    rng, make = Random(7), Commands()
    people = [account_in(number % 4) for number in range(12)]
    written, seen = asyncio.Event(), list[int]()

    async def write(writer: JournalWriter) -> None:
        while len(seen) < 3:
            pairs = [rng.sample(people, 2) for _ in range(20)]
            await writer.write(
                *(make.transfer(source, destination, rng.randint(1, 50)) for source, destination in pairs)
            )
            if rng.random() < 0.5:
                await writer.settle()
        written.set()

    async def verify() -> None:
        while not written.is_set():
            async with snapshot(database.verify) as connection:
                proof = await proof_of(connection)
            assert proof.first_violation is None, str(proof.first_violation)
            seen.append(proof.checked["batches"])

    async with JournalWriter(database) as writer, asyncio.TaskGroup() as group:
        await writer.write(*(make.open(person) for person in people))
        await writer.write(*(make.deposit(person, 10_000) for person in people))
        group.create_task(write(writer))
        group.create_task(verify())
    assert seen[-1] > seen[0] >= 8


WHOLE_TABLES = {
    "accounts": (ACCOUNT_LINES, ""),
    "metadata": (READ_CHANGED_ACCOUNT, ""),
    "waiting": (READ_WAITING, "('{0}', '{1}', '{0}')"),
}


@pytest.mark.parametrize("name", WHOLE_TABLES)
async def test_what_reads_a_whole_table_neither_sorts_nor_hashes_it(
    ledger: Database, scenario: Scenario, name: str
) -> None:
    """It would be written to PostgreSQL's disk once more, however large it is."""
    statement, arguments = WHOLE_TABLES[name]
    async with snapshot(ledger.verify) as connection:
        await connection.execute(f"PREPARE whole AS {statement}")
        plan = "\n".join(str(row[0]) for row in await connection.fetch(f"EXPLAIN EXECUTE whole {arguments}"))
    assert "Index" in plan
    assert "Sort" not in plan, plan
    assert "Hash" not in plan, plan


@pytest.mark.parametrize("rows_max", [1, 7])
async def test_the_proof_does_not_depend_on_where_a_window_of_batches_ends(
    ledger: Database, scenario: Scenario, monkeypatch: pytest.MonkeyPatch, *, rows_max: int
) -> None:
    monkeypatch.setattr(batches, "WINDOW_ROWS_MAX", rows_max)
    async with snapshot(ledger.verify) as connection:
        proof = await proof_of(connection)
    assert (proof.first_violation, proof.checked["entries"], proof.open_findings) == (None, 40, 1)


def run(*arguments: str) -> tuple[int, str]:
    """The command line as a shell runs it."""
    ended = subprocess.run(
        [sys.executable, "-m", "tellerline", "verify", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


def test_the_exit_code_is_1_and_the_row_is_named_for_one_that_does_not(database: Database) -> None:
    scenario = Scenario()

    async def spoil() -> None:
        async with JournalWriter(database) as writer:
            await scenario.write(writer)
        connection = await connect(database.owner, application="tests")
        try:
            await connection.execute(
                "UPDATE ledger.entries SET balance_after = balance_after + 1 WHERE account_id = $1 AND seq = 1",
                scenario.bob,
            )
        finally:
            await connection.close()

    asyncio.run(spoil())
    code, printed = run("--database-url", database.verify)
    assert (code, f"First bad row: entries {scenario.bob}/1" in printed) == (1, True), printed
    code, printed = run("--database-url", database.verify, "--json")
    violation = json.loads(printed)["first_violation"]
    assert (code, violation["table"], violation["key"]) == (1, "entries", f"{scenario.bob}/1")
    assert (violation["expected"], violation["found"]) == ("1000", "1001")


def test_the_exit_code_is_2_when_it_could_not_run(postgres: PostgresServer, tmp_path: Path) -> None:
    for arguments in (
        ("--database-url", "postgresql://nobody:wrong@127.0.0.1:1/none"),
        ("--database-url", postgres.dsn("postgres")),
        ("--data-dir", str(tmp_path)),
    ):
        code, printed = run(*arguments)
        assert (code, "verify could not run" in printed, "Traceback" in printed) == (2, True, False), printed
