"""One service as a process: started with its own environment, ready when its /readyz says so."""

import asyncio
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tellerline.local_stack.servers.files import LOOPBACK
from tellerline.local_stack.servers.process import Child, Command, until_ready

READY_MAX_S = 60.0
READY_POLL_S = 0.1
READY_ANSWER_MAX_S = 5.0
STOP_GRACE_S = 15.0  # a service promises 10
FAULT = "TELLERLINE_FAULT"


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """What to start: `module` as a program, listening at `port` of loopback. A lower tier starts and stays longer."""

    name: str
    module: str
    environment: Mapping[str, str]
    port: int
    tier: int


def program(module: str, *arguments: str) -> list[str]:
    """Runs the module as installed, whatever lies in the current folder."""
    return [sys.executable, "-P", "-m", module, *arguments]


class Service:
    """A part that the supervisor keeps alive."""

    def __init__(self, plan: ServicePlan, log: Path) -> None:
        self.name = plan.name
        self._plan = plan
        self._log = log
        self._child: Child | None = None

    @property
    def pids(self) -> Mapping[str, int]:
        """Its pid, while it runs."""
        return {self.name: self._child.pid} if self._child and self._child.running else {}

    async def start(self) -> None:
        """Starts it and waits until it is ready. Raises StartFailed."""
        environment = dict(self._plan.environment)
        if self._child is not None:
            # A fault that a test asked for comes once, or the service could never recover from it.
            environment.pop(FAULT, None)
        self._child = Child(Command(program(self._plan.module), environment, self._log))
        await until_ready(self._child, self._ready, self.name, self._log, READY_MAX_S, poll_s=READY_POLL_S)

    async def ended(self) -> int:
        """Waits until it ends; as Child.ended."""
        if self._child is None:
            raise RuntimeError("not started")
        return await self._child.ended()

    async def stop(self) -> None:
        """Asks it to stop, and makes it after STOP_GRACE_S."""
        if self._child is not None:
            await self._child.stop(signal.SIGTERM, STOP_GRACE_S)

    async def _ready(self) -> bool:
        """Whether GET /readyz answers 200."""
        try:
            async with asyncio.timeout(READY_ANSWER_MAX_S):
                reader, writer = await asyncio.open_connection(LOOPBACK, self._plan.port)
                try:
                    writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    return (await reader.readline()).split()[1:2] == [b"200"]
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False
