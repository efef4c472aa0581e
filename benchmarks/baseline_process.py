"""The baseline service as a process beside the stack, told before each run which form to play."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from benchmarks.baseline.database import make_database, read_totals
from benchmarks.scenarios import ASSET, FUNDS_MINOR, SCALE, account_ids

READY_MAX_S: Final = 30.0
POLL_S: Final = 0.05
STOP_GRACE_S: Final = 15.0
OK: Final = 200


@dataclass(slots=True)
class BaselineProcess:
    """A running baseline service."""

    url: str
    pid: int
    session: aiohttp.ClientSession
    dsn: str

    async def use_form(self, form: str, pool: int) -> None:
        """From now on it transfers in this form with so many connections. Raises RuntimeError."""
        async with self.session.put(f"{self.url}/form", json={"form": form, "pool": pool}) as response:
            if response.status != OK:
                raise RuntimeError(f"the baseline did not change to {form}: {await response.text()}")

    async def is_conserved(self) -> bool:
        """Whether its accounts still hold, together, what they were given."""
        return (await read_totals(self.dsn))[0] == FUNDS_MINOR * len(account_ids())


@asynccontextmanager
async def baseline_process(owner_dsn: str, api_key: str, log: Path) -> AsyncGenerator[BaselineProcess]:
    """Makes its database and starts it; ends it with the block."""
    dsn = await make_database(
        owner_dsn, accounts=account_ids(), asset=ASSET, scale=SCALE, funds=FUNDS_MINOR, admin_key=api_key
    )
    port = _free_port()
    environment = {**os.environ, "BASELINE_DATABASE_URL": dsn, "BASELINE_PORT": str(port)}
    process = _started(environment, log)
    try:
        async with aiohttp.ClientSession() as session:
            running = BaselineProcess(f"http://127.0.0.1:{port}", process.pid, session, dsn)
            await _until_ready(running, process, log)
            yield running
    finally:
        process.terminate()
        try:
            process.wait(STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _started(environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.baseline"], env=dict(environment), stdout=file, stderr=file
        )


async def _until_ready(running: BaselineProcess, process: "subprocess.Popen[bytes]", log: Path) -> None:
    async with asyncio.timeout(READY_MAX_S):
        while True:
            try:
                async with running.session.get(f"{running.url}/readyz"):
                    return
            except aiohttp.ClientConnectionError:
                if process.poll() is not None:
                    raise RuntimeError(f"the baseline ended: see {log}") from None
            await asyncio.sleep(POLL_S)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
