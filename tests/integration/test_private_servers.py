"""The private servers keep what they confirmed, through kills and crashed supervisors, and never meet each other."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiormq
import pytest

from shared.database.postgres import connect
from tellerline.local_stack.servers import PrivatePostgres, PrivateRabbit
from tellerline.local_stack.servers.postgres import installed_programs
from tellerline.local_stack.servers.process import processes
from tellerline.local_stack.servers.rabbit import OWN_FOLDER, PROGRAMS
from tellerline.local_stack.servers.unprivileged import Way, as_another_user, give_to, in_a_namespace, refusal_of

needs_postgres = pytest.mark.skipif(not installed_programs(), reason="no PostgreSQL is installed")
needs_rabbitmq = pytest.mark.skipif(not PROGRAMS.exists(), reason="no RabbitMQ is installed")
# A quorum queue that is younger can come back empty from a kill of the broker, through no fault of ours.
QUEUE_AGE_MIN_S = 3.0
QUORUM = {"x-queue-type": "quorum"}


@asynccontextmanager
async def postgres_in(folder: Path) -> AsyncGenerator[PrivatePostgres]:
    server = PrivatePostgres(folder)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def execute(server: PrivatePostgres, *statements: str) -> object:
    connection = await connect(server.dsn, application="tests")
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


def listening(pid: int) -> set[str]:
    """The addresses on which this process listens."""
    inodes = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
    found: set[str] = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.add(fields[1].rpartition(":")[0])
    return found


LOOPBACKS = {"0100007F", "00000000000000000000000001000000"}


@needs_postgres
async def test_postgres_keeps_what_it_committed_through_a_kill(tmp_path: Path) -> None:
    async with postgres_in(tmp_path) as server:
        dsn = server.dsn
        await execute(server, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (1) RETURNING n")
        os.kill(server.pids["postgres"], signal.SIGKILL)
        assert await server.ended() == -signal.SIGKILL
        assert server.pids == {}
        assert await server.start() == dsn, "the address stays"
        assert await execute(server, "SELECT n FROM kept") == 1
        assert listening(server.pids["postgres"]) <= LOOPBACKS


@needs_postgres
async def test_postgres_is_durable_and_speaks_utf8(tmp_path: Path) -> None:
    async with postgres_in(tmp_path) as server:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await execute(server, f"SHOW {setting}") == "on"
        assert await execute(server, "SHOW server_encoding") == "UTF8"
        assert (
            await execute(server, "SELECT datcollate FROM pg_database WHERE datname = current_database()") == "C.UTF-8"
        )


@needs_postgres
async def test_postgres_of_a_killed_supervisor_is_stopped_by_the_next_one(tmp_path: Path) -> None:
    first = PrivatePostgres(tmp_path)
    await first.start()
    await execute(first, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (1) RETURNING n")
    async with postgres_in(tmp_path) as second:
        assert await first.ended() == 0, "a clean stop, not a kill"
        assert await execute(second, "SELECT n FROM kept") == 1


@needs_postgres
async def test_a_stale_pid_file_with_a_pid_that_is_somebody_elses_by_now_does_no_harm(tmp_path: Path) -> None:
    async with postgres_in(tmp_path) as server:
        pid_file = tmp_path / "cluster" / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        os.kill(server.pids["postgres"], signal.SIGKILL)
        await server.ended()
        with subprocess.Popen(["sleep", "600"]) as stranger:
            pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
            await server.start()
            assert stranger.poll() is None
            stranger.kill()


@needs_postgres
async def test_a_start_that_was_cut_short_leaves_nothing_half_made(tmp_path: Path) -> None:
    half = tmp_path / "cluster.new" / "base"
    half.mkdir(parents=True)
    (half.parent / "PG_VERSION").write_text("18\n")
    async with postgres_in(tmp_path) as server:
        assert await execute(server, "SELECT 1") == 1
    assert not half.exists()


@needs_postgres
async def test_two_postgres_run_side_by_side(tmp_path: Path) -> None:
    async with postgres_in(tmp_path / "one") as one, postgres_in(tmp_path / "two") as two:
        assert one.dsn != two.dsn
        await execute(one, "CREATE TABLE mine (n int)", "SELECT 1")
        assert await execute(two, "SELECT to_regclass('mine')") is None
        await one.end_leftovers()
        assert await execute(two, "SELECT 1") == 1, "ending one's leftovers does not touch the other"


@needs_postgres
@pytest.mark.skipif(os.geteuid() != 0, reason="for root alone")
@pytest.mark.parametrize("how", [in_a_namespace, as_another_user])
async def test_root_can_run_postgres_below_a_folder_closed_to_all_others(
    tmp_path: Path, how: Callable[[], Way]
) -> None:
    way = how()
    folder = tmp_path / "closed" / "postgres"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o700)
    give_to(folder, way.owner)
    if refusal := refusal_of(way, Path("/bin/true"), folder):
        pytest.skip(f"this machine refuses it: {refusal}")
    server = PrivatePostgres(folder)  # it remembers the way by the owner of the folder
    await server.start()
    try:
        status = Path(f"/proc/{server.pids['postgres']}/status").read_text()
        assert await execute(server, "SELECT 1") == 1
        assert f"Uid:\t{way.owner}\t" in status
    finally:
        await server.stop()


async def keep_message(url: str, queue: str, body: bytes) -> None:
    connection = await aiormq.connect(url)
    try:
        channel = await connection.channel(publisher_confirms=True)
        await channel.queue_declare(queue, durable=True, arguments=dict(QUORUM))
        await channel.basic_publish(body, routing_key=queue, properties=aiormq.spec.Basic.Properties(delivery_mode=2))
    finally:
        await connection.close()


async def take_message(url: str, queue: str) -> bytes:
    connection = await aiormq.connect(url)
    try:
        channel = await connection.channel()
        async with asyncio.timeout(30):
            while not (message := await channel.basic_get(queue, no_ack=True)).body:
                await asyncio.sleep(0.1)
        return message.body
    finally:
        await connection.close()


@needs_rabbitmq
async def test_rabbitmq_keeps_what_it_confirmed_and_everything_of_it_ends_with_it(tmp_path: Path) -> None:
    server, other = PrivateRabbit(tmp_path / "one"), PrivateRabbit(tmp_path / "two")
    url, other_url = await asyncio.gather(server.start(), other.start())
    try:
        await keep_message(url, "kept", b"first")
        await asyncio.sleep(QUEUE_AGE_MIN_S)
        for pid in server.pids.values():
            assert listening(pid) <= LOOPBACKS
        os.kill(server.pids["rabbitmq"], signal.SIGKILL)
        assert await server.ended() == -signal.SIGKILL
        assert await server.start() == url, "the address stays"
        assert await take_message(url, "kept") == b"first"
        await keep_message(other_url, "kept", b"the neighbour was not touched")
    finally:
        await asyncio.gather(server.stop(), other.stop())
    assert not server.pids
    left = [line for _, line in processes() if any(str(tmp_path) in part for part in line)]
    assert not left, "no node, no port mapper"


@needs_rabbitmq
@pytest.mark.parametrize("made_by_an_earlier_version", [False, True])
async def test_a_copy_of_rabbitmq_runs_beside_its_original_and_each_has_everything(
    tmp_path: Path, *, made_by_an_earlier_version: bool
) -> None:
    folder, other = tmp_path / "the original {1}", tmp_path / "a copy [2]"
    original = PrivateRabbit(folder)
    url = await original.start()
    await keep_message(url, "kept", b"first")
    await original.stop()
    if made_by_an_earlier_version:
        for config in configurations(folder):
            text = config.read_text(encoding="utf-8")
            assert OWN_FOLDER in text
            config.write_text(text.replace(OWN_FOLDER, str(folder)), encoding="utf-8")
    shutil.copytree(folder, other)
    copy = PrivateRabbit(other)
    url, other_url = await original.start(), await copy.start()
    try:
        assert await take_message(url, "kept") == await take_message(other_url, "kept") == b"first"
        await keep_message(other_url, "kept", b"the copy's alone")
        assert not any(str(tmp_path) in config.read_text(encoding="utf-8") for config in configurations(tmp_path))
        shutil.rmtree(folder)
        assert await take_message(other_url, "kept") == b"the copy's alone"
    finally:
        await asyncio.gather(original.stop(), copy.stop())


def configurations(folder: Path) -> list[Path]:
    """Those of the quorum queues."""
    found = list(folder.rglob("quorum/*/*/config"))
    assert found
    return found


@needs_rabbitmq
async def test_rabbitmq_of_a_killed_supervisor_is_stopped_by_the_next_one(tmp_path: Path) -> None:
    first, second = PrivateRabbit(tmp_path), PrivateRabbit(tmp_path)
    url = await first.start()
    epmd = first.pids["epmd"]
    assert await second.start() == url
    try:
        assert not first.pids
        assert second.pids["epmd"] != epmd
    finally:
        await second.stop()
