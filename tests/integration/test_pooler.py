"""PgBouncer between the services and PostgreSQL: in session mode everything works, in other modes nothing starts."""

import os
import shutil
import subprocess
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.backends.databases import Database
from tests.integration.gateway import Stack, stack, start
from tests.system.stack import free_port

PGBOUNCER = shutil.which("pgbouncer")
START_MAX_S = 20
pytestmark = [pytest.mark.timeout(180), pytest.mark.skipif(PGBOUNCER is None, reason="Debian: pgbouncer")]


@pytest.fixture
def alone(database: Database, broker: str, tmp_path: Path) -> Iterator[Stack]:
    """A database and a broker; the test starts the rest."""
    with stack(database, broker, tmp_path) as running:
        yield running


@contextmanager
def pooler(database: Database, folder: Path, mode: str) -> Generator[dict[str, str]]:
    """Runs one; yields the DSN of each role through it."""
    port = free_port()
    server = urlsplit(database.worker)
    roles = {"gateway": database.gateway, "ledger_worker": database.worker, "distributor": database.distributor}
    users = {service: urlsplit(dsn) for service, dsn in roles.items()}
    folder.mkdir()
    (folder / "users.txt").write_text("".join(f'"{each.username}" "{each.password}"\n' for each in users.values()))
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={server.hostname} port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {folder}/users.txt\n"
        f"pool_mode = {mode}\ndefault_pool_size = 20\n"
    )
    command = [str(PGBOUNCER), str(folder / "pgbouncer.ini")]
    if os.getuid() == 0:  # it refuses to run as root
        for path in (folder, *folder.iterdir(), *folder.parents[:-2]):
            path.chmod(path.stat().st_mode | 0o055)
        command[1:1] = ["-u", "nobody"]
    with (folder / "log").open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        deadline = time.monotonic() + START_MAX_S
        while "listening on" not in (folder / "log").read_text():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield {
            service: f"postgresql://{each.username}:{each.password}@127.0.0.1:{port}{each.path}"
            for service, each in users.items()
        }
    finally:
        process.terminate()
        process.wait(START_MAX_S)


async def test_behind_a_pooler_in_session_mode_a_service_works_and_a_killed_worker_is_noticed(
    alone: Stack, tmp_path: Path
) -> None:
    with pooler(alone.database, tmp_path / "pooler", "session") as dsns:
        worker = alone.worker(database_url=dsns["ledger_worker"])
        client = alone.gateway(database_url=dsns["gateway"])
        opened = await client.post("/v1/accounts", {"id": "bob", "asset": "USD"}, prefer="wait=30")
        assert (opened.status, (await client.get("/v1/accounts/bob"))["balance"]) == (201, "0")
        # A killed worker is noticed through the pooler, too.
        worker.started.kill()
        worker.started.wait()
        began_s = time.monotonic()
        alone.worker(database_url=dsns["ledger_worker"], lease_ttl_s="600")
        deposit = {"account": "bob", "amount": "1", "asset": "USD"}
        assert (await client.post("/v1/deposits", deposit, prefer="wait=30")).status == 201
        assert time.monotonic() - began_s < START_MAX_S
        for process in alone.processes[1:]:
            assert process.stop() == 0
    alone.processes.clear()


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_in_another_mode_each_process_refuses_to_start_in_one_line(alone: Stack, tmp_path: Path, mode: str) -> None:
    with pooler(alone.database, tmp_path / "pooler", mode) as dsns:
        for service, dsn in dsns.items():
            environment = {"TELLERLINE_DATABASE_URL": dsn, "TELLERLINE_AMQP_URL": alone.vhost}
            if service == "distributor":
                environment["TELLERLINE_JOBCOIN_URL"] = "http://127.0.0.1:1/tellerline/api"
            process = start(service, tmp_path, environment)
            assert process.started.wait(START_MAX_S) == 2, process.log.read_text()
            [line] = process.log.read_text().splitlines()
            assert "pool_mode = session" in line
