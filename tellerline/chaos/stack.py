"""The stack that is hurt: where its parts are, and which processes they have at this moment."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

from shared.domain.values import value
from tellerline.local_stack.servers.files import LOOPBACK
from tellerline.local_stack.servers.rabbit import NODE, PROGRAMS
from tellerline.local_stack.supervisor.data_dir import DataDir
from tellerline.local_stack.supervisor.detached import start_detached
from tellerline.local_stack.supervisor.plan import Options
from tellerline.stack_options import say

RABBITMQCTL_MAX_S: Final = 30.0


class StackGone(Exception):
    """No stack runs in the data dir."""


@value
class Stack:
    """A stack of this machine, found by its data dir."""

    data_dir: DataDir
    gateways: Sequence[str]
    admin_key: str
    jobcoin: str
    jobcoin_control: str
    postgres: str
    # Service → its address; /readyz stands below it.
    services: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path) -> "Stack":
        """The stack that runs there. Raises StackGone."""
        data_dir = DataDir(folder)
        state = _state(data_dir)
        metrics = cast("Mapping[str, str]", state["metrics"])
        return cls(
            data_dir=data_dir,
            gateways=cast("Sequence[str]", state["gateways"]),
            admin_key=str(state["admin_key"]),
            jobcoin=str(state["jobcoin"]),
            jobcoin_control=str(state["jobcoin_control"]),
            postgres=str(state["postgres"]),
            services={name: url.removesuffix("/metrics") for name, url in metrics.items()},
        )

    def pids_of(self, target: str) -> Sequence[int]:
        """The processes of a service or server, in the order of their names; none while it is down."""
        pids = cast("Mapping[str, int]", _state(self.data_dir)["pids"])
        return [pid for name, pid in sorted(pids.items()) if name == target or name.rpartition("-")[0] == target]

    async def rabbitmqctl(self, *arguments: str) -> int:
        """Runs it on this stack's node and no other; its exit code. Raises TimeoutError."""
        folder = self.data_dir.path / "rabbitmq"
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(folder / "home"),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self.data_dir.ports.kept("epmd")),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_CONF_ENV_FILE": str(folder / "etc" / "env.conf"),
        }
        process = await asyncio.create_subprocess_exec(
            str(PROGRAMS / "rabbitmqctl"),
            *("--silent", *arguments),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            return await asyncio.wait_for(process.wait(), RABBITMQCTL_MAX_S)
        except TimeoutError:
            process.kill()
            raise


@contextmanager
def started(folder: Path, workers: int, gateways: int) -> Generator[Stack]:
    """A stack of its own in this folder, which is stopped in the end. Raises StartFailed."""
    options = Options(port=0, workers=workers, gateways=gateways)
    data_dir = DataDir(folder)
    data_dir.prepare()
    start_detached(options, data_dir, say)
    try:
        yield Stack.of(folder)
    finally:
        subprocess.run([sys.executable, "-m", "tellerline", "down", "--data-dir", str(folder)], check=False)


def _state(data_dir: DataDir) -> Mapping[str, object]:
    state = data_dir.read_state()
    if state is None:
        raise StackGone(f"no stack runs in {data_dir.path}")
    return state
