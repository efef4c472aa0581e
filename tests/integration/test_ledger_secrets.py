"""The ledger's secrets: the naming key stays for good, the signing secret may be rotated, and any other is refused."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.domain.ids import AccountId
from shared.runtime.ledger_secrets import fingerprint
from tests.backends.databases import Database
from tests.builders import Commands
from tests.integration.gateway import ADMIN_KEY, SECRET, STOP_MAX_S, Process, Stack, stack, start, variables
from tests.integration.test_migrate import migrate
from tests.journal_writer import JournalWriter

ROTATED, FOREIGN = "the rotated secret of thirty-two characters", "a foreign secret of thirty-two characters"
AFTER_ROTATION = {"naming_key": SECRET, "secret": ROTATED, "secret_previous": SECRET}
FORGET_FINGERPRINTS = "UPDATE ledger.constants SET naming_key_fingerprint = NULL, secret_fingerprint = NULL"
WRONG = [
    *((service, {"naming_key": FOREIGN}) for service in ("gateway", "ledger_worker", "deposit_poller", "distributor")),
    *((service, {"naming_key": SECRET, "secret": FOREIGN}) for service in ("gateway", "ledger_worker")),
    ("distributor", {"secret": FOREIGN}),  # which is its naming key, too
]


@pytest.fixture
def running(database: Database, vhost: str, tmp_path: Path) -> Iterator[Stack]:
    """Nothing runs yet."""
    with stack(database, vhost, tmp_path) as running:
        yield running


def transfer(amount: str) -> dict[str, object]:
    return {"source": "alice", "destination": "bob", "amount": amount, "asset": "USD"}


async def test_a_rotated_secret_changes_no_outcome_and_what_the_old_one_signed_is_still_decided(
    running: Stack,
) -> None:
    worker = running.worker()
    api = running.gateway()
    await api.account("alice", funds="10")
    await api.account("bob")
    first = await api.post("/v1/transfers", transfer("4"), key="moved once")
    page = await api.get("/v1/transactions?limit=1")
    assert worker.stop() == 0
    # Confirmed by the broker and signed with the old secret; nobody decides it yet.
    waiting = await api.post("/v1/transfers", transfer("1"), key="in the queue", prefer="wait=0")
    assert waiting.status == 202
    assert running.processes[1].stop() == 0

    assert await asyncio.to_thread(migrate, running.database.owner, **AFTER_ROTATION) == (0, [])
    running.worker(**AFTER_ROTATION)
    api = running.gateway(naming_key=SECRET, secret=ROTATED, secret_previous=SECRET)
    again = await api.post("/v1/transfers", transfer("4"), key="moved once")
    assert (again.status, again.replayed) == (201, True)
    assert again.headers["Operation-Id"] == first.headers["Operation-Id"]
    decided = await api.post("/v1/transfers", transfer("1"), key="in the queue")
    assert (decided.status, decided.headers["Operation-Id"]) == (201, waiting.headers["Operation-Id"])
    assert (await api.get("/v1/accounts/bob"))["balance"] == "5"
    assert await api.rows(f"/v1/transactions?limit=1&cursor={page['next']}")
    assert (await api.get(f"/v1/operations/{waiting.headers['Operation-Id']}"))["status"] == "posted"


@pytest.mark.parametrize(("service", "settings"), WRONG)
def test_a_process_with_another_secret_refuses_to_start_in_one_line(
    database: Database, vhost: str, tmp_path: Path, service: str, settings: dict[str, str]
) -> None:
    dsn = {"gateway": database.gateway, "ledger_worker": database.worker, "deposit_poller": database.poller}
    environment = {
        "TELLERLINE_DATABASE_URL": dsn.get(service, database.distributor),
        "TELLERLINE_AMQP_URL": vhost,
        "TELLERLINE_ADMIN_KEY": ADMIN_KEY,
        "TELLERLINE_JOBCOIN_URL": "http://127.0.0.1:9/tellerline/api",
    }
    code, told = ended(start(service, tmp_path, environment | variables(settings)))
    wrong = "SECRET" if settings.get("naming_key") == SECRET else "NAMING_KEY"
    assert (code, len(told)) == (2, 1), told
    assert told[0].startswith(f"settings: TELLERLINE_{wrong} has fingerprint {fingerprint(FOREIGN)}, this ledger's")
    assert FOREIGN not in told[0]
    assert SECRET not in told[0]


def ended(process: Process) -> tuple[int, list[str]]:
    """Exit code and log lines of a process that ends by itself."""
    try:
        return process.started.wait(STOP_MAX_S), process.log.read_text(encoding="utf-8").splitlines()
    except subprocess.TimeoutExpired:
        process.started.kill()
        raise


async def test_migrate_refuses_a_naming_key_that_is_not_the_ledger_s_and_a_secret_that_does_not_follow_it(
    database: Database,
) -> None:
    for settings in ({"naming_key": FOREIGN}, {"secret": ROTATED}, AFTER_ROTATION | {"secret_previous": FOREIGN}):
        code, told = await asyncio.to_thread(migrate, database.owner, role_password_gateway="another", **settings)
        assert (code, len(told)) == (2, 1), told
    assert await asyncio.to_thread(migrate, database.owner, **AFTER_ROTATION) == (0, [])
    # Which is the ledger's secret now: the old one without the new is refused.
    assert (await asyncio.to_thread(migrate, database.owner))[0] == 2
    assert await asyncio.to_thread(migrate, database.owner, naming_key=SECRET, secret=ROTATED) == (0, [])


async def test_a_ledger_from_before_there_were_fingerprints_takes_only_the_key_that_made_its_ids(
    database: Database, running: Stack
) -> None:
    async with JournalWriter(database) as journal:
        await journal.write(Commands().open(AccountId("alice")))
    await running.execute(FORGET_FINGERPRINTS)
    code, told = ended(running.worker())
    assert (code, len(told)) == (2, 1), told
    assert "run `tellerline migrate`" in told[0]
    code, told = await asyncio.to_thread(migrate, database.owner, secret=FOREIGN)
    assert (code, len(told)) == (2, 1), told
    assert "were made with another naming key" in told[0]
    assert await asyncio.to_thread(migrate, database.owner) == (0, [])
    running.worker().wait_for("worker.started")
