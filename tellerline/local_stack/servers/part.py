"""Base classes of the private servers and the services: processes that are started, awaited and stopped."""

import asyncio
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tellerline.local_stack.servers.files import LOOPBACK, KeptPorts, private_folder
from tellerline.local_stack.servers.process import Child, end_leftovers, log_tail

ANSWER_MAX_S = 5.0
ANSWER_BYTES_MAX = 1_024


class Part(ABC):
    """A private server or a service. `start` and `stop` may alternate.

    `_children` are its processes by name, in the order of their start; the one with the part's own name is the part.
    """

    name: str
    stop_signal = signal.SIGTERM
    stop_grace_s: float

    def __init__(self, log: Path) -> None:
        self._log = log
        self._children: dict[str, Child] = {}

    @property
    def pids(self) -> Mapping[str, int]:
        """Those of its processes that run, by name."""
        return {name: child.pid for name, child in reversed(self._children.items()) if child.running}

    @abstractmethod
    async def start(self) -> object:
        """Returns when it is ready. Raises StartFailed."""

    async def ended(self) -> int:
        """Waits until the process with its name ends; returns as Child.ended."""
        if self.name not in self._children:
            raise RuntimeError("not started")
        return await self._children[self.name].ended()

    async def why_not_ready(self) -> str:
        """What it says itself: the last line of its log. Empty if it wrote none."""
        return log_tail(self._log, lines_max=1).strip()

    async def stop(self) -> None:
        """Stops its processes cleanly, the last one first, or kills them. Harmless when they do not run."""
        for child in reversed(list(self._children.values())):
            await child.stop(self.stop_signal, self.stop_grace_s)


class PrivateServer(Part):
    """A server for this stack only, on loopback, with all its state in one folder. The state stays when it stops.

    `ports` may be shared with other parts, so that no two choose the same; `port_names` are the ports that it needs.
    """

    port_names: Sequence[str]
    stop_grace_s = 30.0

    def __init__(self, folder: Path, log: Path | None, ports: KeptPorts | None) -> None:
        self._folder = folder.resolve()
        super().__init__(log or self._folder / f"{self.name}.log")
        self._kept_ports = ports or KeptPorts(self._folder / "ports.json")
        self._ports: dict[str, int] = {}
        self._served = False  # once it was ready, clients know its ports, which must not change

    async def _prepare(self) -> None:
        """Before each start: makes the folder, ends what is left of an earlier run, and chooses the ports."""
        private_folder(self._folder)
        await self.end_leftovers()
        if not self._served:
            self._ports = {name: self._kept_ports.port(name) for name in self.port_names}

    @abstractmethod
    def _found_by(self) -> Sequence[tuple[Callable[[], Iterator[int]], signal.Signals]]:
        """Functions that find the pids of this folder's processes, each with the signal to stop them; in stop order."""

    async def end_leftovers(self) -> int:
        """Stops what an earlier run of this folder left behind; the number of processes."""
        return sum([await end_leftovers(find, wish, self.stop_grace_s) for find, wish in self._found_by()])

    def leftovers(self) -> int:
        """How many processes of this folder run, whoever started them."""
        return sum(len(list(find())) for find, _ in self._found_by())


async def first_answer(port: int, request: bytes) -> bytes:
    """What a server at this port of loopback answers first; nothing when none listens, or it does not answer."""
    try:
        async with asyncio.timeout(ANSWER_MAX_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(request)
                return await reader.read(ANSWER_BYTES_MAX)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return b""
