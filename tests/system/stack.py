"""The whole stack as `tellerline up` runs it, with the means to hurt it and to look at it from outside."""

import asyncio
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import aiohttp
import psutil
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel, ConfigDict

from shared.database.postgres import connect
from tellerline.local_stack.supervisor.data_dir import DataDir
from tests.tree import ROOT

UP_MAX_S = 120
DOWN_MAX_S = 60
VERIFY_MAX_S = 120
POLL_S = 0.1
LOG_LINES_SHOWN = 25

T = TypeVar("T")


class Facts(BaseModel):
    """What `tellerline up --detach --json --secrets` and `tellerline status --json` print."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    gateway: str
    gateways: tuple[str, ...]
    jobcoin: str
    admin_key: str
    amqp: str
    postgres: str
    pids: Mapping[str, int]
    # Process → the URL of its /metrics; /readyz and /livez stand beside it.
    metrics: Mapping[str, str]


def free_port() -> int:
    """A port on which nobody listens at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def tellerline(*arguments: str, within_s: float, environment: Mapping[str, str] | None = None) -> str:
    """Runs the command line as a user would; its standard output. Raises RuntimeError with all it said if it fails."""
    program = Path(sys.executable).with_name("tellerline")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TELLERLINE_")}
    ended = subprocess.run(
        [program, *arguments],
        cwd=ROOT,
        env={**kept, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(
            f"tellerline {' '.join(arguments)} ended with {ended.returncode}\n{ended.stdout}{ended.stderr}"
        )
    return ended.stdout


@dataclass(slots=True)
class Stack:
    """A running stack under one data dir. `partitions`: as many as the ledger has."""

    data_dir: Path
    workers: int
    gateways: int
    partitions: int
    facts: Facts
    stopped: set[int] = field(default_factory=set[int])
    # Processes beside those of the supervisor: name → the URL of its /metrics.
    added: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def up(
        cls,
        data_dir: Path,
        *,
        workers: int = 1,
        gateways: int = 1,
        partitions: int = 1,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> "Stack":
        """Starts it and returns when it is ready. `environment` reaches every service (TELLERLINE_FAULT)."""
        try:
            printed = tellerline(
                *(
                    "up",
                    "--detach",
                    "--json",
                    "--secrets",
                    "--data-dir",
                    str(data_dir),
                    "--port",
                    str(port or free_port()),
                ),
                *("--workers", str(workers), "--gateways", str(gateways), "--partitions", str(partitions)),
                within_s=UP_MAX_S,
                environment=environment,
            )
        except (RuntimeError, subprocess.TimeoutExpired):
            tellerline("down", "--data-dir", str(data_dir), within_s=DOWN_MAX_S)
            raise
        return cls(data_dir, workers, gateways, partitions, Facts.model_validate_json(printed))

    def down(self) -> None:
        """Ends everything; a stopped process is continued first, so that it can hear the signal."""
        self.resume_all()
        tellerline("down", "--data-dir", str(self.data_dir), within_s=DOWN_MAX_S)

    def status(self) -> Facts:
        """The facts of this moment, as `tellerline status --json` prints them: restarted services have new pids."""
        state = DataDir(self.data_dir).read_state()
        if state is None:
            raise RuntimeError(f"no stack runs in {self.data_dir}")
        self.facts = Facts.model_validate(state)
        return self.facts

    @property
    def worker_names(self) -> list[str]:
        """`ledger_worker-1` …"""
        return [f"ledger_worker-{number}" for number in range(1, self.workers + 1)]

    # --- hurting it ---------------------------------------------------------------------------------------------------

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Sends a signal, by default the one that no process can catch, to what `pids` calls `name`; the pid it had."""
        pid = self.status().pids[name]
        os.kill(pid, number)
        return pid

    def stop(self, name: str) -> int:
        """SIGSTOP: the process keeps its connections and locks, and answers nothing."""
        pid = self.kill(name, signal.SIGSTOP)
        self.stopped.add(pid)
        return pid

    def cont(self, name: str) -> int:
        """SIGCONT."""
        pid = self.kill(name, signal.SIGCONT)
        self.stopped.discard(pid)
        return pid

    def resume_all(self) -> None:
        """Continues whatever a test left stopped."""
        for pid in list(self.stopped):
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGCONT)
            self.stopped.discard(pid)

    async def killed(self, name: str, number: signal.Signals = signal.SIGKILL, *, within_s: float = 30) -> int:
        """Kills `name` and waits until the supervisor has started it again and it is ready; its new pid."""
        return await self.started_again(name, self.kill(name, number), within_s=within_s)

    async def started_again(self, name: str, old_pid: int, *, within_s: float = 30) -> int:
        """The pid of `name` once it is another one and the process is ready."""

        async def is_another() -> bool:
            return self.status().pids.get(name, old_pid) != old_pid

        await self.wait_until(is_another, within_s=within_s)
        if name in self.metrics:
            await self.wait_until(functools.partial(self.is_ready, name), within_s=within_s)
        return self.facts.pids[name]

    @property
    def metrics(self) -> Mapping[str, str]:
        """Process → the URL of its /metrics."""
        return {**self.facts.metrics, **self.added}

    # --- looking at it ------------------------------------------------------------------------------------------------

    async def wait_until(self, condition: Callable[[], Awaitable[T]], *, within_s: float) -> T:
        """The first true answer of `condition`. Raises TimeoutError naming the condition and its last answer."""
        deadline = time.monotonic() + within_s
        while not (answer := await condition()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not true within {within_s} s, last answer {answer!r}: {condition}")
            await asyncio.sleep(POLL_S)
        return answer

    async def get(self, url: str, *, within_s: float = 5) -> tuple[int, str]:
        """Status and text of any address of the stack; status 0 if nobody answers."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=within_s)) as session,
                session.get(url) as response,
            ):
                return response.status, await response.text()
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""

    async def is_ready(self, name: str) -> bool:
        """Whether the service's /readyz says so."""
        status, _ = await self.get(self.metrics[name].removesuffix("/metrics") + "/readyz")
        return status == 200

    async def metric(self, process: str, name: str, /, **labels: str) -> float:
        """The sum of the samples of `name` that carry `labels`, in one process; 0.0 while there is none.

        `process` is a name of `pids`, or a service's name for the sum over all its processes.
        """
        urls = [url for each, url in self.metrics.items() if each == process or each.rpartition("-")[0] == process]
        if not urls:
            raise KeyError(f"{process} has no metrics; there are {sorted(self.metrics)}")
        texts = [text for _, text in await asyncio.gather(*(self.get(url) for url in urls))]
        return sum(
            sample.value
            for text in texts
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def verify(self) -> dict[str, object]:
        """What `tellerline verify --json` proves; it raises RuntimeError if the ledger is not sound."""
        printed = await asyncio.to_thread(
            tellerline, "verify", "--json", "--data-dir", str(self.data_dir), within_s=VERIFY_MAX_S
        )
        proof: dict[str, object] = json.loads(printed)
        return proof

    async def rows(self, statement: str, *arguments: object) -> list[dict[str, object]]:
        """What the database itself says, past every cache of the stack."""
        connection = await connect(self.facts.postgres, application="tests")
        try:
            return [dict(row) for row in await connection.fetch(statement, *arguments)]
        finally:
            await connection.close()

    def log_tails(self) -> str:
        """The last lines that each process wrote."""
        tails: list[str] = []
        for path in sorted(self.data_dir.rglob("*.log")):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
            tails += [f"==> {path.relative_to(self.data_dir)}", *lines]
        return "\n".join(tails)
