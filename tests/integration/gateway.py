"""A gateway and a ledger worker as processes, on a database and a broker of their own, and a client of the API."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import aiohttp

from shared.broker.declare import declare_topology
from shared.database.postgres import connect
from shared.domain.api_keys import new_key
from tests.backends.databases import Database
from tests.tree import ROOT

ADMIN_KEY = "the-admin-key-of-these-tests"
SECRET = "a secret of thirty-two characters"
START_MAX_S = 30
STOP_MAX_S = 15


@dataclass(frozen=True, slots=True)
class Told:
    """An answer, read whole."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> dict[str, object]:
        return cast("dict[str, object]", json.loads(self.text))

    @property
    def code(self) -> str:
        """The problem's code; also that it is one, and says nothing that it should not."""
        problem = self.body
        assert self.headers["Content-Type"] == "application/problem+json", self.headers
        assert problem["status"] == self.status
        assert problem["type"] == f"/problems/{problem['code']}"
        assert problem["request_id"] == self.headers["X-Request-Id"]
        assert "Traceback" not in self.text
        return str(problem["code"])

    @property
    def replayed(self) -> bool:
        return self.headers.get("Idempotency-Replayed") == "true"


@dataclass(slots=True)
class Client:
    """Calls one gateway with one key."""

    url: str
    key: str = ADMIN_KEY
    # Where /metrics is.
    inner: str = ""

    async def metrics(self) -> str:
        """Prometheus' text."""
        return (await Client(self.inner).call("GET", "/metrics")).text

    async def call(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> Told:
        timeout = aiohttp.ClientTimeout(total=40)
        sent = {"Authorization": f"Bearer {self.key}", **(headers or {})}
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, self.url + path, json=body, headers=sent) as answer,
        ):
            return Told(answer.status, answer.headers.copy(), await answer.text())

    async def get(self, path: str, *, status: int = 200) -> dict[str, object]:
        told = await self.call("GET", path)
        assert told.status == status, told
        return told.body

    async def rows(self, path: str) -> list[dict[str, object]]:
        """One page of a list."""
        return cast("list[dict[str, object]]", (await self.get(path))["data"])

    async def post(self, path: str, body: object, *, key: str | None = None, prefer: str | None = None) -> Told:
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.call("POST", path, body, headers=headers | ({} if prefer is None else {"Prefer": prefer}))

    async def made(self, path: str, body: object, *, key: str | None = None) -> dict[str, object]:
        """What a write that must succeed made."""
        told = await self.post(path, body, key=key)
        assert told.status == 201, told
        return told.body

    async def account(
        self, name: str, *, owner: str | None = None, funds: str | None = None, asset: str = "USD"
    ) -> str:
        """Opens an account, with something in it."""
        await self.made("/v1/accounts", {"id": name, "asset": asset} | ({} if owner is None else {"owner": owner}))
        if funds is not None:
            await self.made("/v1/deposits", {"account": name, "amount": funds, "asset": asset})
        return name


@dataclass(slots=True)
class Process:
    """A service of ours. Its log is in a file, one JSON object a line."""

    started: subprocess.Popen[bytes]
    log: Path

    def wait_for(self, event: str) -> Mapping[str, object]:
        """The first line with this event."""
        deadline = time.monotonic() + START_MAX_S
        while time.monotonic() < deadline:
            for line in self.log.read_text(encoding="utf-8").splitlines():
                if f'"{event}"' in line:
                    return json.loads(line)
            if self.started.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError(f"no {event}:\n{self.log.read_text(encoding='utf-8')}")

    def stop(self) -> int:
        """Ends it as the supervisor does; its exit code."""
        self.started.send_signal(signal.SIGCONT)
        self.started.terminate()
        return self.started.wait(STOP_MAX_S)


def start(service: str, folder: Path, environment: Mapping[str, str], *, files_max: int | None = None) -> Process:
    """`python -m services.<service>` with nothing else of ours in its environment; `files_max` may be open at once."""
    log = folder / f"{service}-{time.monotonic_ns()}.log"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TELLERLINE_")}
    defaults = {"TELLERLINE_SECRET": SECRET, "TELLERLINE_LOG_FORMAT": "json", "TELLERLINE_PORT": "0"}
    with log.open("wb") as errors:
        bounded = [] if files_max is None else ["prlimit", f"--nofile={files_max}"]
        command = [*bounded, sys.executable, "-m", f"services.{service}"]
        environment = kept | defaults | dict(environment)
        started = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=errors, stderr=errors)
    return Process(started, log)


@dataclass(slots=True)
class Stack:
    """One database, one virtual host; gateways and workers come and go."""

    database: Database
    vhost: str
    folder: Path
    processes: list[Process] = field(default_factory=list[Process])

    def worker(self, **settings: str) -> Process:
        """One more ledger worker; settings in lower case."""
        own = {"lease_ttl_s": "3"} | settings
        return self._start("ledger_worker", self.database.worker, variables(own))

    def gateway(self, *, ready: bool = True, files_max: int | None = None, **settings: str) -> Client:
        """One more gateway, once it listens (and is ready); settings in lower case."""
        process = self._start(
            "gateway",
            self.database.gateway,
            {"TELLERLINE_ADMIN_KEY": ADMIN_KEY} | variables(settings),
            files_max=files_max,
        )
        listening = process.wait_for("gateway.listening")
        client = Client(str(listening["url"]), inner=str(listening["inner"]))
        if ready:
            wait_until_ready(client.url)
        return client

    async def key(self, principal: str, *scopes: str) -> str:
        """An API key, as `tellerline keys create` makes it."""
        key = new_key()
        statement = "INSERT INTO access.keys (id, hash, principal, scopes) VALUES ($1, $2, $3, $4)"
        await self.execute(statement, key.id, key.hash, principal, list(scopes))
        return key.text

    async def execute(self, statement: str, *arguments: object) -> object:
        """One statement as owner; its first value."""
        connection = await connect(self.database.owner, application="tests")
        try:
            return await connection.fetchval(statement, *arguments)
        finally:
            await connection.close()

    def _start(
        self, service: str, dsn: str, environment: Mapping[str, str], *, files_max: int | None = None
    ) -> Process:
        addresses = {"TELLERLINE_DATABASE_URL": dsn, "TELLERLINE_AMQP_URL": self.vhost}
        process = start(service, self.folder, addresses | dict(environment), files_max=files_max)
        self.processes.append(process)
        return process


def variables(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment variables of settings in lower case."""
    return {f"TELLERLINE_{name.upper()}": value for name, value in settings.items()}


def wait_until_ready(url: str) -> None:
    """Waits until GET /readyz answers 200, or misses nothing but workers: a test may have started none."""
    deadline = time.monotonic() + START_MAX_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):  # noqa: S310 - ours
                return
        except urllib.error.HTTPError as error:
            with error:
                # Without `missing` it is a refusal: of a connection too many, for instance.
                missing = json.load(error).get("missing", {})
            if missing.keys() == {"partitions"}:
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"not ready: {missing}") from error
            time.sleep(0.05)


@contextmanager
def stack(database: Database, vhost: str, folder: Path) -> Generator[Stack]:
    """Declares the topology; ends every process afterwards, each with exit code 0."""
    asyncio.run(declare_topology(vhost, partitions=database.partitions))
    running = Stack(database, vhost, folder)
    try:
        yield running
    finally:
        codes = [process.stop() for process in running.processes if process.started.poll() is None]
    assert not any(codes), codes
