"""One service as a process: started with its own environment, ready when its /readyz says so."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tellerline.local_stack.servers.part import Part, first_answer
from tellerline.local_stack.servers.process import Child, until_ready

READY_MAX_S = 60.0
STOP_GRACE_S = 15.0  # services end within 10
FAULT = "TELLERLINE_FAULT"
GET_READYZ = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """What to start: `module` as a program, listening at `port` of loopback. A lower tier starts and stays longer.

    `metrics_port`: of its /metrics; only a gateway has another one for its clients.
    """

    name: str
    module: str
    environment: Mapping[str, str]
    port: int
    tier: int
    metrics_port: int


def program(module: str, *arguments: str) -> list[str]:
    """The command that runs a module; `-P` keeps the current folder off its import path."""
    return [sys.executable, "-P", "-m", module, *arguments]


class Service(Part):
    """One process, which ends on SIGTERM."""

    stop_grace_s = STOP_GRACE_S

    def __init__(self, plan: ServicePlan, log: Path) -> None:
        super().__init__(log)
        self.name = plan.name
        self._plan = plan

    async def start(self) -> None:
        """Starts it and waits until it is ready. Raises StartFailed."""
        environment = dict(self._plan.environment)
        if self._children:
            # A fault that a test asked for comes once, or the service could never recover from it.
            environment.pop(FAULT, None)
        child = Child(program(self._plan.module), environment, self._log)
        self._children[self.name] = child
        await until_ready(child, self._ready, self.name, READY_MAX_S)

    async def why_not_ready(self) -> str:
        """What its /readyz says is missing, else the last line of its log."""
        _, _, body = (await first_answer(self._plan.port, GET_READYZ)).partition(b"\r\n\r\n")
        return body.decode(errors="replace").strip() or await super().why_not_ready()

    async def _ready(self) -> bool:
        """Whether GET /readyz answers 200."""
        return (await first_answer(self._plan.port, GET_READYZ)).split()[1:2] == [b"200"]
