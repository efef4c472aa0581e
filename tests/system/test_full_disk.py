"""A full disk stops writes, and nothing else for good: with space again everything goes on by itself."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shared.database.postgres import CONNECTION_FAULTS
from tests.system.client import UNDECIDED, client_of
from tests.system.load import ACCOUNTS, FUNDS, load, running, sound
from tests.system.stack import Stack

SIZE_MB = 600
FILL_STEP_BYTES = 1_000_000
# From the moment when there is space, where a stack starts within START_S; on a busier machine in proportion.
RECOVERY_MAX_S = 15
START_S = 10
SERVICES = ("supervisor", "gateway-1", "ledger_worker-1", "deposit_poller-1", "distributor-1", "jobcoin_network-1")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk of limited size")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with SIZE_MB megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(place)]
    if refused := subprocess.run(mount, capture_output=True, text=True, check=False).stderr:
        pytest.skip(f"this machine mounts nothing: {refused}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def began_s() -> float:
    return time.monotonic()


@pytest.fixture
def stack(disk: Path, began_s: float) -> Iterator[Stack]:
    del began_s
    stack = Stack.up(disk / "stack")
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
