"""The stack under load: one that runs already, or one that is started for the bench and stopped afterwards."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import aiohttp

from benchmarks.scenarios import ASSET, FUNDS_MINOR, SCALE
from shared.domain.money import format_amount

COMMAND_MAX_S: Final = 600.0
CLIENTS: Final = 256
CREATED: Final = 201
TAKEN: Final = 409
# An exit code of `tellerline verify`: the journal holds, and an amount in suspense waits for an operator.
FINDINGS_OPEN: Final = 3
SERVERS: Final = frozenset({"postgres", "rabbitmq", "epmd"})


class StackFailed(Exception):
    """The stack did not do what the bench needs; the message says what."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Addresses and keys of the stack. Without `data_dir` it runs elsewhere, and its processes cannot be measured."""

    gateway: str
    admin_key: str
    postgres: str | None = None
    amqp: str | None = None
    data_dir: Path | None = None
    metrics: Mapping[str, str] = field(default_factory=dict[str, str])

    def pids(self) -> dict[str, int]:
        """Process ids by name, read anew each time: a service that was restarted has another."""
        if self.data_dir is None:
            return {}
        return cast(
            "dict[str, int]",
            json.loads(_tellerline("status", "--json", "--data-dir", str(self.data_dir)))["pids"],
        )


@contextmanager
def stack_of(data_dir: Path, *, workers: int = 1) -> Generator[Stack]:
    """The stack that runs in the data dir; else one is started there, and stopped in the end. Raises StackFailed.

    One that is started has so many workers, and a partition for each.
    """
    try:
        described = _tellerline("status", "--json", "--secrets", "--data-dir", str(data_dir))
    except StackFailed:
        described = _tellerline(
            *("up", "--detach", "--json", "--secrets", "--port", "0", "--data-dir", str(data_dir)),
            *("--workers", str(workers), "--partitions", str(workers)),
        )
        try:
            yield _described(described, data_dir)
        finally:
            _tellerline("down", "--data-dir", str(data_dir))
    else:
        yield _described(described, data_dir)


def verified(stack: Stack) -> Mapping[str, object]:
    """What `tellerline verify --json` proves. Raises StackFailed when the journal does not hold, or cannot be read."""
    if stack.postgres is None:
        raise StackFailed("verify needs the database: give --postgres")
    # Not as an argument, which everybody on the machine may read.
    environment = {"TELLERLINE_DATABASE_URL": stack.postgres}
    return json.loads(_tellerline("verify", "--json", environment=environment, also=FINDINGS_OPEN))


def _described(text: str, data_dir: Path) -> Stack:
    described = json.loads(text)
    return Stack(
        gateway=described["gateway"],
        admin_key=described["admin_key"],
        postgres=described["postgres"],
        amqp=described["amqp"],
        data_dir=data_dir,
        metrics=described["metrics"],
    )


def _tellerline(*arguments: str, environment: Mapping[str, str] | None = None, also: int = 0) -> str:
    """What the command printed. Raises StackFailed unless its exit code is 0 or `also`."""
    run = subprocess.run(
        [sys.executable, "-m", "tellerline", *arguments],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        # Only the progress of a start is for the user.
        stderr=None if arguments[0] == "up" else subprocess.PIPE,
        text=True,
        timeout=COMMAND_MAX_S,
        check=False,
    )
    if run.returncode not in {0, also}:
        raise StackFailed(
            f"tellerline {arguments[0]} ended with {run.returncode}\n{run.stdout}{run.stderr or ''}".rstrip()
        )
    return run.stdout


async def open_accounts(stack: Stack, accounts: list[str]) -> None:
    """Opens those that are not there and funds them, many at once; harmless when repeated. Raises StackFailed."""
    headers = {"Authorization": f"Bearer {stack.admin_key}"}
    connector = aiohttp.TCPConnector(limit=CLIENTS)
    async with aiohttp.ClientSession(stack.gateway, headers=headers, connector=connector) as session:
        for route, bodies in (
            ("/v1/accounts", ({"id": each, "asset": ASSET} for each in accounts)),
            ("/v1/deposits", ({"account": each, "amount": _funds(), "asset": ASSET} for each in accounts)),
        ):
            waiting = iter(zip(accounts, bodies, strict=True))
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(CLIENTS):
                        group.create_task(_post_all(session, route, waiting))
            except ExceptionGroup as failures:
                raise StackFailed(f"the accounts cannot be opened: {failures.exceptions[0]}") from failures


async def _post_all(session: aiohttp.ClientSession, route: str, waiting: Iterator[tuple[str, dict[str, str]]]) -> None:
    for account, body in waiting:
        key = {"Idempotency-Key": f"bench:{route}:{account}", "Prefer": "wait=30"}
        async with session.post(route, json=body, headers=key) as response:
            text = await response.text()
            if response.status not in {CREATED, TAKEN}:
                raise StackFailed(f"{route} answered {response.status} for {account}: {text}")


def _funds() -> str:
    return format_amount(FUNDS_MINOR, SCALE)
