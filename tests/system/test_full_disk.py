"""A full disk stops writes, and nothing else for good: with space again everything goes on by itself."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import psutil
import pytest

from shared.database.postgres import CONNECTION_FAULTS
from tellerline.local_stack.supervisor.data_dir import DataDir
from tests.system.client import UNDECIDED, client_of
from tests.system.load import ACCOUNTS, FUNDS, load, running, sound
from tests.system.stack import Stack

# What has a small disk: where it lies, and its megabytes. The broker alone blocks publishers below 200 free ones.
DISKS = {"everything": ("disk", 600), "the broker": ("disk/stack/rabbitmq", 400)}
FILL_STEP_BYTES = 1_000_000
# From the moment when there is space, where a stack starts within START_S; on a busier machine in proportion.
RECOVERY_MAX_S = 15
START_S = 10
SERVICES = ("supervisor", "gateway-1", "ledger_worker-1", "deposit_poller-1", "distributor-1", "jobcoin_network-1")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk of limited size")


@contextlib.contextmanager
def mounted(place: Path, megabytes: int) -> Generator[Path]:
    """A file system of its own with so many megabytes."""
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(place)]
    if refused := subprocess.run(mount, capture_output=True, text=True, check=False).stderr:
        pytest.skip(f"this machine mounts nothing: {refused}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def disk(tmp_path: Path, what: str) -> Iterator[Path]:
    """A small file system that holds the whole data dir, or the broker's folder alone."""
    place, megabytes = DISKS[what]
    if what == "the broker":  # `up` takes no folder that holds something, except a data dir
        data_dir = DataDir(tmp_path / "disk" / "stack")
        data_dir.prepare()
        with data_dir.locked():  # makes the lock, by which a data dir is known
            pass
    with mounted(tmp_path / place, megabytes) as disk:
        yield disk


@pytest.fixture
def began_s() -> float:
    return time.monotonic()


@pytest.fixture
def stack(disk: Path, tmp_path: Path, began_s: float) -> Iterator[Stack]:
    del began_s, disk
    stack = Stack.up(tmp_path / "disk" / "stack")
    try:
        yield stack
    finally:
        stack.down()


@pytest.fixture
def recovery_max_s(began_s: float, stack: Stack) -> float:
    del stack
    return RECOVERY_MAX_S * max(1.0, (time.monotonic() - began_s) / START_S)


def fill(folder: Path) -> Path:
    """A file that takes all the space there is."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(FILL_STEP_BYTES))
    assert shutil.disk_usage(folder).free < FILL_STEP_BYTES
    return filler


@pytest.mark.parametrize("what", ["everything"])
async def test_a_full_disk_ends_no_process_of_ours_and_with_space_again_everything_goes_on_by_itself(
    stack: Stack, disk: Path, recovery_max_s: float
) -> None:
    pids = {name: stack.facts.pids[name] for name in SERVICES}
    async with client_of(stack) as client:
        accounts = await client.accounts(ACCOUNTS, funds=str(FUNDS))

        async def is_not_ready() -> bool:
            return (await stack.get(f"{stack.facts.gateway}/readyz"))[0] == 503

        async with load(client, accounts) as seen:
            await running(stack, seen)
            filler = fill(disk)
            await stack.wait_until(is_not_ready, within_s=15)
            assert (await client.get(f"/v1/accounts/{accounts[0]}")).status == 200, "reads go on"
            assert (await client.transfer(accounts[0], accounts[1], "0.01")).status in UNDECIDED
            # The worst that can come: PostgreSQL needs a new segment of its log, and ends.
            with contextlib.suppress(*CONNECTION_FAULTS):
                await stack.rows("SELECT pg_switch_wal()::text")
            await stack.wait_until(is_not_ready, within_s=15)
            filler.unlink()
            await running(stack, seen, more=20, within_s=recovery_max_s)
        await sound(client, accounts, seen)
    assert {name: stack.status().pids[name] for name in SERVICES} == pids, "none of them was started again"

    async def is_ready_and_state_true() -> bool:
        is_true = all(psutil.pid_exists(pid) for pid in stack.status().pids.values())
        return is_true and await stack.is_ready("gateway-1")

    await stack.wait_until(is_ready_and_state_true, within_s=15)
    await stack.verify()


@pytest.mark.parametrize("what", ["the broker"])
async def test_a_full_disk_of_the_broker_alone_is_named_and_with_space_again_everything_goes_on_by_itself(
    stack: Stack, disk: Path, recovery_max_s: float
) -> None:
    pids = {name: stack.facts.pids[name] for name in (*SERVICES, "postgres")}
    async with client_of(stack) as client:
        accounts = await client.accounts(ACCOUNTS, funds=str(FUNDS))

        async def names_the_broker() -> bool:
            status, body = await stack.get(f"{stack.facts.gateway}/readyz")
            return status == 503 and "rabbitmq" in json.loads(body)["missing"]

        async with load(client, accounts) as seen:
            await running(stack, seen)
            filler = fill(disk)
            await stack.wait_until(names_the_broker, within_s=15)
            assert (await client.get(f"/v1/accounts/{accounts[0]}")).status == 200, "reads go on"
            assert (await client.transfer(accounts[0], accounts[1], "0.01")).status in {503, 504}
            filler.unlink()
            await running(stack, seen, more=20, within_s=recovery_max_s)
        await sound(client, accounts, seen)
    await stack.wait_until(lambda: stack.is_ready("gateway-1"), within_s=15)
    assert {name: stack.status().pids[name] for name in pids} == pids, "none of them was started again"
    await stack.verify()
