"""What waits for an operator is shown, and ended by commands that the journal holds: by HTTP and the command line."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from shared.database.postgres import connect
from tellerline.verification.proof import prove
from tellerline.verification.store.snapshot import snapshot
from tests.backends.databases import Database
from tests.contract.conditions import eventually_async
from tests.integration.gateway import Client, Stack, stack
from tests.journal_scenario import Scenario
from tests.journal_writer import JournalWriter

ITEM = "suspense:USD:2:1"
PATH = f"/v1/operator/suspense/{ITEM}"
UNOWNED = "UPDATE ledger.partitions SET owner = NULL, lease_expires_at = '-infinity'"


@pytest.fixture
async def scenario(database: Database) -> Scenario:
    """A ledger with 0.40 in suspense and 0.60 on their way, which nobody serves."""
    written = Scenario()
    async with JournalWriter(database) as writer:
        await written.write(writer)
    return written


@pytest.fixture
async def running(database: Database, vhost: str, tmp_path: Path, scenario: Scenario) -> AsyncIterator[Stack]:
    made = stack(database, vhost, tmp_path)
    served = await asyncio.to_thread(made.__enter__)
    await served.execute(UNOWNED)
    try:
        yield served
    finally:
        await asyncio.to_thread(made.__exit__, None, None, None)


async def tellerline(api: Client, *arguments: str) -> tuple[int, str]:
    """The command line as a shell runs it."""
    environment = os.environ | {"TELLERLINE_GATEWAY_URL": api.url, "TELLERLINE_API_KEY": api.key}
    command = [sys.executable, "-m", "tellerline", *arguments]
    ended = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    return ended.returncode, ended.stdout + ended.stderr


async def test_an_operator_sees_what_waits_while_nobody_serves_the_ledger(running: Stack, scenario: Scenario) -> None:
    api = await asyncio.to_thread(running.gateway, ready=False)
    (item,) = await api.rows("/v1/operator/suspense")
    assert (item["id"], item["amount"], item["asset"], item["resolved_by"]) == (ITEM, "0.4", "USD", None)
    (waiting,) = await api.rows("/v1/operator/unsettled")
    credits = cast("list[dict[str, str]]", waiting["credits"])
    assert [(each["account"], each["amount"]) for each in credits] == [(scenario.carol, "0.6")]
    partitions = await api.rows("/v1/operator/partitions")
    assert [each["partition"] for each in partitions] == [0, 1, 2, 3]
    assert {each["owner"] for each in partitions} == {None}

    async def backlogs() -> bool:
        rows = await api.rows("/v1/operator/partitions")
        return {row["backlog"] for row in rows} == {0}

    await eventually_async(backlogs)
    code, printed = await tellerline(api, "status", "--ledger")
    assert (code, f"in suspense: {ITEM}  0.4 USD" in printed) == (0, True), printed
    assert "partition 3: nobody" in printed
    assert "1 in suspense, 1 batches with unsettled credits" in printed
    code, printed = await tellerline(api, "status", "--ledger", "--json")
    assert set(json.loads(printed)) == {"partitions", "suspense", "unsettled"}


async def test_an_operator_sees_since_when_the_oldest_command_of_a_partition_waits(
    running: Stack, scenario: Scenario, database: Database
) -> None:
    await asyncio.to_thread(running.worker)
    api = await asyncio.to_thread(running.gateway)

    async def waiting() -> set[object]:
        rows = await api.rows("/v1/operator/partitions")
        return {row["waiting_since"] for row in rows} - {None}

    async def none_waits() -> bool:
        return not await waiting()

    async def one_waits() -> bool:
        return len(await waiting()) == 1

    await eventually_async(none_waits)
    journal = await connect(database.owner, application="tests")
    try:
        async with journal.transaction():
            await journal.execute("LOCK TABLE ledger.operations IN SHARE MODE")
            body = {"account": scenario.dave, "amount": "1", "asset": "USD"}
            told = await api.call("POST", "/v1/deposits", body, headers={"Prefer": "respond-async"})
            assert told.status == 202
            await eventually_async(one_waits)
    finally:
        await journal.close()
    await eventually_async(none_waits)


async def test_an_amount_leaves_suspense_once_by_a_transaction_that_verify_takes_as_acknowledged(
    running: Stack, scenario: Scenario, database: Database
) -> None:
    await asyncio.to_thread(running.worker)
    api = await asyncio.to_thread(running.gateway)
    resolve = f"{PATH}/resolve"
    refused = await api.post(resolve, {"destination": "nobody"})
    assert (refused.status, refused.code) == (422, "account_not_found")
    code, printed = await tellerline(
        api, "suspense", "resolve", ITEM, "--destination", scenario.dave, "--reason", "his"
    )
    assert (code, f"{ITEM}  " in printed, "(resolved by " in printed) == (0, True, True), printed
    again = await api.post(resolve, {"destination": scenario.dave, "reason": "his"})
    assert (again.status, again.replayed) == (200, True), again
    other = await api.post(resolve, {"destination": scenario.alice})
    assert (other.status, other.code) == (422, "idempotency_key_reused")
    assert await api.rows("/v1/operator/suspense") == []
    (done,) = await api.rows("/v1/operator/suspense?resolved=true")
    moved = await api.get(f"/v1/transactions/{done['resolved_by']}")
    assert (moved["reference"], moved["metadata"]) == (ITEM, {"reason": "his"})

    async def is_proved() -> bool:
        async with snapshot(database.verify) as connection:
            proof = await prove(connection, lambda _: None)
        assert proof.first_violation is None, str(proof.first_violation)
        return proof.open_findings == 0 and proof.checked["unsettled"] == 0

    await eventually_async(is_proved)


async def test_an_amount_that_a_transfer_of_an_admin_has_moved_is_not_moved_again(
    running: Stack, scenario: Scenario
) -> None:
    await asyncio.to_thread(running.worker)
    api = await asyncio.to_thread(running.gateway)
    item = await api.get(PATH)
    moved = await api.made(
        "/v1/transfers",
        {"source": "suspense:USD:2", "destination": scenario.dave, "amount": item["amount"], "asset": "USD"}
        | {"reference": ITEM},
    )
    assert (await api.get(PATH))["resolved_by"] == moved["id"]
    again = await api.post(f"{PATH}/resolve", {"destination": scenario.dave})
    assert (again.status, again.code) == (422, "idempotency_key_reused")
    assert (await api.get("/v1/accounts/suspense:USD:2"))["balance"] == "0"


async def test_no_more_leaves_suspense_than_lies_there_however_many_move_it_at_once(
    running: Stack, scenario: Scenario
) -> None:
    await asyncio.to_thread(running.worker)
    api = await asyncio.to_thread(running.gateway)
    own = {"source": "suspense:USD:2", "destination": scenario.dave, "amount": "0.4", "asset": "USD", "reference": ITEM}
    told = await asyncio.gather(
        *(api.post("/v1/transfers", own) for _ in range(3)),
        *(api.post(f"{PATH}/resolve", {"destination": scenario.dave}) for _ in range(3)),
    )
    assert {each.code for each in told if each.status > 201} <= {"insufficient_funds", "idempotency_key_reused"}
    moved = {each.headers["Operation-Id"] for each in told if each.status <= 201}
    assert len(moved) == 1
    assert (await api.get("/v1/accounts/suspense:USD:2"))["balance"] == "0"


async def test_a_key_gives_the_first_outcome_of_a_resolution_again(running: Stack, scenario: Scenario) -> None:
    await asyncio.to_thread(running.worker)
    api = await asyncio.to_thread(running.gateway)
    resolve = f"{PATH}/resolve"
    refused = await api.post(resolve, {"destination": "nobody"}, key="first")
    assert (refused.status, refused.code, refused.replayed) == (422, "account_not_found", False)
    assert (await api.post(resolve, {"destination": scenario.dave}, key="first")).code == "idempotency_key_reused"
    done = [await api.post(resolve, {"destination": scenario.dave}, key="second") for _ in range(2)]
    assert [(each.status, each.replayed) for each in done] == [(200, False), (200, True)]
    assert done[0].text == done[1].text
    again = await api.post(resolve, {"destination": "nobody"}, key="first")
    assert (again.status, again.code, again.replayed) == (422, "account_not_found", True)
    assert again.headers["Operation-Id"] == refused.headers["Operation-Id"]


async def test_the_operation_that_an_answer_without_an_outcome_names_can_be_asked_for(
    running: Stack, scenario: Scenario
) -> None:
    api = await asyncio.to_thread(running.gateway, ready=False)
    waits = await api.post(f"{PATH}/resolve", {"destination": scenario.dave}, prefer="respond-async")
    assert waits.status == 202, waits
    assert (await api.get(waits.headers["Location"]))["status"] == "pending"
    await asyncio.to_thread(running.worker)
    decided = await api.get(f"{waits.headers['Location']}&wait=30")
    assert decided["status"] == "posted"
    assert (await api.get(PATH))["resolved_by"] == decided["id"]


async def test_lists_for_operators_carry_a_position_and_links(running: Stack) -> None:
    api = await asyncio.to_thread(running.gateway, ready=False)
    for noun in ("suspense", "unsettled", "partitions"):
        told = await api.call("GET", f"/v1/operator/{noun}")
        assert told.headers["Tellerline-Position"], noun
        assert all(row["links"] for row in cast("list[dict[str, object]]", told.body["data"]))


async def test_what_waits_for_an_operator_is_for_admins_and_an_unknown_item_is_not_found(running: Stack) -> None:
    api = await asyncio.to_thread(running.gateway, ready=False)
    stranger = Client(api.url, await running.key("alice", "read", "write", "payout"))
    for path in ("suspense", f"suspense/{ITEM}", "unsettled", "partitions", "dead-letters", "dead-letters/x"):
        told = await stranger.call("GET", f"/v1/operator/{path}")
        assert (told.status, told.code) == (403, "forbidden")
    for name in ("suspense:USD:2:99", "alice:1", "suspense:USD:2", "suspense:USD:2:0", "%00:1", "world:USD:0:1"):
        for method, path, body in (("GET", "", None), ("POST", "/resolve", {"destination": "alice"})):
            told = await api.call(method, f"/v1/operator/suspense/{name}{path}", body)
            assert (told.status, told.code) == (404, "not_found"), name
