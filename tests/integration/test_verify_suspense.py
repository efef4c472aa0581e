"""What lies in suspense by design is a finding of `tellerline verify`, open until an operator has resolved it."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

from benchmarks import stack as bench_stack
from services.ledger_worker.core import batch
from shared.domain.ids import AccountId
from shared.journal.suspense import item_key
from shared.journal.transit import TransitCredit
from shared.messages import PostTransaction
from tellerline.verification.proof import Proof, prove
from tellerline.verification.store.snapshot import snapshot
from tests.backends.databases import Database
from tests.journal_scenario import Scenario
from tests.journal_writer import JournalWriter


async def test_the_exit_code_is_3_while_something_lies_in_suspense_and_0_once_an_operator_has_resolved_it(
    database: Database,
) -> None:
    scenario = Scenario()
    async with JournalWriter(database) as writer:
        await scenario.write(writer)
        code, printed = await verified(database)
        assert (code, "The journal holds: 40 entries" in printed) == (3, True), printed
        assert "finding suspense:USD:2:1: 40 minor units of USD: transit row 0/" in printed
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


async def test_a_bench_ends_well_beside_an_amount_in_suspense(database: Database) -> None:
    """As on a stack that somebody uses: the journal holds, and an operator has still to decide."""
    async with JournalWriter(database) as writer:
        await Scenario().write(writer)
    found = await asyncio.to_thread(bench_stack.verified, bench_stack.Stack("", "", postgres=database.verify))
    assert (found["ok"], found["open_findings"]) == (True, 1)


async def verified(database: Database, *arguments: str) -> tuple[int, str]:
    """The command line, while this process goes on."""
    command = [sys.executable, "-m", "tellerline", "verify", "--database-url", database.verify, *arguments]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    return ended.returncode, ended.stdout + ended.stderr


async def proof_of(database: Database) -> Proof:
    async with snapshot(database.verify) as connection:
        return await prove(connection, lambda _: None)


def resolution(scenario: Scenario, account: str, seq: int, amount: int) -> PostTransaction:
    """What an operator's decision about an amount in suspense leaves in the journal."""
    item = item_key(account, seq)
    moved = scenario.commands.transfer(AccountId(account), scenario.dave, amount)
    return moved.model_copy(update={"reference": item})


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
        proof = await proof_of(database)
    assert proof.first_violation is None, str(proof.first_violation)
    last = proof.findings[-1] if is_set_aside else proof.findings[0]
    assert (last.amount, last.asset, last.acknowledged_by, "cannot be read" in last.cause) == (12, "USD", None, True)
    assert last.key == "suspense:USD:2:2" if is_set_aside else last.key.startswith("transit 0/")


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
        proof = await proof_of(database)
    assert proof.first_violation is None, str(proof.first_violation)
    assert [(finding.key, finding.acknowledged_by) for finding in proof.findings] == [(item, None)]
