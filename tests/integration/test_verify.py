"""`tellerline verify` passes what the worker wrote, and names the first bad row of whatever was tampered with."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from random import Random

import pytest

from services.ledger_worker.core import batch
from shared.database.postgres import Connection, connect
from shared.domain.ids import AccountId
from shared.journal.suspense import item_key, resolution_id
from shared.journal.transit import TransitCredit
from shared.messages import PostTransaction
from tellerline.verification.findings import Violation
from tellerline.verification.proof import Proof, prove
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
    names = {name: str(value) for name, value in asdict(scenario).items() if name != "commands"}
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
    written = asyncio.Event()

    async def write(writer: JournalWriter) -> None:
        for _ in range(60):
            pairs = [rng.sample(people, 2) for _ in range(20)]
            await writer.write(
                *(make.transfer(source, destination, rng.randint(1, 50)) for source, destination in pairs)
            )
            if rng.random() < 0.5:
                await writer.settle()
        written.set()

    async def verify() -> list[int]:
        batches: list[int] = []
        while not written.is_set():
            async with snapshot(database.verify) as connection:
                proof = await proof_of(connection)
            assert proof.first_violation is None, str(proof.first_violation)
            batches.append(proof.checked["batches"])
        return batches

    async with JournalWriter(database) as writer, asyncio.TaskGroup() as group:
        await writer.write(*(make.open(person) for person in people))
        await writer.write(*(make.deposit(person, 10_000) for person in people))
        group.create_task(write(writer))
        seen = group.create_task(verify())
    assert len(seen.result()) > 1
    assert seen.result()[-1] > seen.result()[0] >= 8


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


async def test_the_exit_code_is_3_while_something_lies_in_suspense_and_0_once_an_operator_has_resolved_it(
    database: Database,
) -> None:
    scenario = Scenario()
    async with JournalWriter(database) as writer:
        await scenario.write(writer)
        code, printed = await verified(database)
        assert (code, "The journal holds: 40 entries" in printed) == (3, True), printed
        assert "finding suspense:USD:2/1: 40 minor units of USD: transit row 0/" in printed
        assert "(open)\n1 open finding:" in printed
        code, printed = await verified(database, "--json")
        said = json.loads(printed)
        assert (code, said["ok"], said["first_violation"], said["open_findings"]) == (3, True, None, 1)
        command = resolution(scenario, "suspense:USD:2", 1, 40)
        (decision,) = await writer.write(command)
        assert decision.code is None
    code, printed = await verified(database, "--json")
    said = json.loads(printed)
    assert (code, said["ok"], said["open_findings"]) == (0, True, 0)
    assert [finding["acknowledged_by"] for finding in said["findings"]] == [command.id]
    assert said["checked"]["entries"] == 42
    assert said["seconds"] > 0
    assert set(said["heads"]) == {"0", "1", "2", "3"}
    code, printed = await verified(database)
    assert (code, f"(acknowledged by operation {command.id})" in printed, "open" in printed) == (0, True, False)


async def verified(database: Database, *arguments: str) -> tuple[int, str]:
    """The command line, while this process goes on."""
    return await asyncio.to_thread(run, "--database-url", database.verify, *arguments)


def resolution(scenario: Scenario, account: str, seq: int, amount: int) -> PostTransaction:
    """What an operator's decision about an amount in suspense leaves in the journal."""
    item = item_key(account, seq)
    moved = scenario.commands.transfer(AccountId(account), scenario.dave, amount)
    return moved.model_copy(update={"id": resolution_id(item, 0), "reference": item})


def newer_credits(_: Sequence[TransitCredit]) -> str:
    """A transit row of a version that is not known here."""
    return '{"v":9}'


@pytest.mark.parametrize("is_set_aside", [True, False], ids=["set aside", "waiting"])
async def test_a_transit_row_that_cannot_be_read_is_a_finding_and_no_broken_rule(
    database: Database, monkeypatch: pytest.MonkeyPatch, *, is_set_aside: bool
) -> None:
    """As after an upgrade that was taken back: a newer worker wrote a row that this version does not know."""
    scenario = Scenario()
    async with JournalWriter(database) as writer:
        await scenario.write(writer)
        monkeypatch.setattr(batch, "encode_credits", newer_credits)
        make = scenario.commands
        await writer.write(
            make.transfer(scenario.alice, scenario.dave, 7), make.transfer(scenario.bob, scenario.dave, 5)
        )
        monkeypatch.undo()
        if is_set_aside:
            await writer.settle(aside=True)
            await writer.write(resolution(scenario, "suspense:USD:2", 1, 40))
        async with snapshot(database.verify) as connection:
            proof = await proof_of(connection)
    assert proof.first_violation is None, str(proof.first_violation)
    last = proof.findings[-1] if is_set_aside else proof.findings[0]
    assert (last.amount, last.asset, last.acknowledged_by, "cannot be read" in last.cause) == (12, "USD", None, True)
    assert last.key == "suspense:USD:2/2" if is_set_aside else last.key.startswith("transit 0/")


async def test_only_a_posting_of_the_whole_amount_out_of_suspense_acknowledges_a_finding(database: Database) -> None:
    """A client may write any reference into its transfers."""
    scenario = Scenario()
    make, item = scenario.commands, item_key("suspense:USD:2", 1)
    async with JournalWriter(database) as writer:
        await scenario.write(writer)
        others = (
            make.transfer(scenario.alice, scenario.bob, 40),
            make.transfer(AccountId("suspense:USD:2"), scenario.dave, 39),
            make.transfer(AccountId("suspense:USD:2"), AccountId("suspense:USD:2"), 40),
        )
        await writer.write(*(command.model_copy(update={"reference": item}) for command in others))
        async with snapshot(database.verify) as connection:
            proof = await proof_of(connection)
    assert proof.first_violation is None, str(proof.first_violation)
    assert [(finding.key, finding.acknowledged_by) for finding in proof.findings] == [(item, None)]


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
