"""The simulated network as a process of its own, and a client that is strict about what it gets."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import aiohttp

API = "/puppy/api"
OK = (200, {"status": "OK"})


class NetworkProcess:
    """The service on a free port, with its file in a directory that outlives it."""

    def __init__(self, directory: Path, *, has_control: bool = True) -> None:
        settings = {"PORT": "0", "HOST": "127.0.0.1", "JOBCOIN_DIR": str(directory), "LOG_FORMAT": "json"}
        if has_control:
            settings["CONTROL_PORT"] = "0"
        environment = os.environ | {f"TELLERLINE_{name}": value for name, value in settings.items()}
        command = [sys.executable, "-m", "services.jobcoin_network"]
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        self.url = ""
        self.control_url = ""

    def listening(self) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if '"control.listening"' in line:
                self.control_url = f"http://{json.loads(line)['addresses'][0]}"
            if '"jobcoin.listening"' in line:
                self.url = f"http://{json.loads(line)['addresses'][0]}"
                return self.url
        raise AssertionError(f"it ended with {self.process.wait()}")

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        _, _ = self.process.communicate(timeout=15)
        return self.process.returncode


@contextlib.contextmanager
def running(
    directory: Path, ending: signal.Signals = signal.SIGTERM, *, has_control: bool = True
) -> Generator[NetworkProcess]:
    network = NetworkProcess(directory, has_control=has_control)
    try:
        network.listening()
        yield network
    finally:
        network.end(ending)


class Client:
    """A client of the API, strict about what it gets."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def post(self, path: str, **how: object) -> tuple[int, object]:
        async with self.session.post(path, **how) as response:  # pyright: ignore[reportArgumentType] each test's own way
            assert response.content_type == "application/json"
            return response.status, await response.json()

    async def send(self, sender: str, recipient: str, amount: str, api: str = API) -> tuple[int, object]:
        fields = {"fromAddress": sender, "toAddress": recipient, "amount": amount}
        return await self.post(f"{api}/transactions", data=fields)

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(path) as response:
            return response.status, await response.text()

    async def listed(self, api: str = API) -> list[dict[str, str]]:
        return json.loads((await self.get(f"{api}/transactions"))[1])

    async def balance(self, address: str, api: str = API) -> str:
        return json.loads((await self.get(f"{api}/addresses/{address}"))[1])["balance"]


@contextlib.asynccontextmanager
async def client_of(network: NetworkProcess) -> AsyncGenerator[Client]:
    async with aiohttp.ClientSession(network.url) as session:
        yield Client(session)
