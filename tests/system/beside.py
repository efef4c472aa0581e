"""Processes beside those of the supervisor, as another machine would start them; a fault may be armed in one."""

import asyncio
import functools
import itertools
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.system.stack import Stack, free_port
from tests.tree import ROOT

READY_MAX_S = 30
STOP_MAX_S = 30
_numbers = itertools.count(101)


@dataclass(frozen=True, slots=True)
class Beside:
    """A service's process that nobody starts again."""

    name: str
    url: str
    log: Path
    process: subprocess.Popen[bytes]

    async def ended(self, within_s: float = 60) -> int:
        """Its exit code, negative for a signal. Raises subprocess.TimeoutExpired."""
        return await asyncio.to_thread(self.process.wait, within_s)

    def said(self, text: str) -> bool:
        """Whether this stands in its log."""
        return text in self.log.read_text(encoding="utf-8", errors="replace")


def start(stack: Stack, kind: str, fault: str | None) -> Beside:
    """A process of `kind` with the settings of the stack's first one, but for its port."""
    settings = psutil.Process(stack.status().pids[f"{kind}-1"]).environ()
    name, port = f"{kind}-{next(_numbers)}", free_port()
    metrics_port = free_port() if kind == "gateway" else port
    settings |= {"TELLERLINE_PORT": str(port), "TELLERLINE_METRICS_PORT": str(metrics_port)}
    settings.pop("TELLERLINE_FAULT", None)
    if fault is not None:
        # The points lie on the way of a large batch; a small one goes in a single round trip.
        settings |= {"TELLERLINE_FAULT": fault, "TELLERLINE_COPY_OPERATIONS_MIN": "1"}
    log = stack.data_dir / "log" / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", f"services.{kind}"], cwd=ROOT, env=settings, stdout=output, stderr=output
        )
    url = f"http://127.0.0.1:{port}"
    stack.added[name] = f"http://127.0.0.1:{metrics_port}/metrics"
    return Beside(name, url, log, process)


@asynccontextmanager
async def beside(stack: Stack, kind: str, count: int = 1, *, fault: str | None = None) -> AsyncGenerator[list[Beside]]:
    """So many processes more, ready. Afterwards they are told to stop, which all without a fault do cleanly."""
    started = [start(stack, kind, fault) for _ in range(count)]
    try:
        for each in started:
            await stack.wait_until(functools.partial(stack.is_ready, each.name), within_s=READY_MAX_S)
        yield started
    finally:
        for each in started:
            each.process.terminate()
        codes = [await each.ended(STOP_MAX_S) for each in started]
        for each in started:
            del stack.added[each.name]
    if any(codes) and fault is None:
        raise RuntimeError(f"told to stop, they ended with {codes}, not with 0")
