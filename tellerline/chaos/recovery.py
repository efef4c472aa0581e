"""How long the stack takes until it works again after a fault."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import aiohttp

from shared.domain.ids import AccountId, partition_of
from tellerline.chaos.plan import SERVICES, Kind
from tellerline.chaos.stack import Stack

RECOVERY_MAX_S: Final = 120.0
POLL_S: Final = 0.1
TRY_MAX_S: Final = 2.0
POSTED: Final = 201
READY: Final = 200


class RecoveryProbes:
    """Probes: a deposit into an account of each partition, and the /readyz of the services."""

    def __init__(self, session: aiohttp.ClientSession, stack: Stack, run: str, partitions: int, asset: str) -> None:
        self._session = session
        self._stack = stack
        self._asset = asset
        self._numbers = itertools.count()
        self._run = run
        self._accounts = accounts_of_partitions(f"probe-{run}", partitions)

    async def prepare(self) -> None:
        """Opens the accounts of the probes."""
        for account in self._accounts:
            body = {"id": account, "asset": self._asset}
            await _until(POSTED, lambda account=account, body=body: self._post("/v1/accounts", body, account))

    async def seconds(self, kind: Kind) -> float | None:
        """Seconds from now until a command of each partition is posted and what was hit is ready; None: it never was.

        Of what was hit: the processes of that service, all of them for a server.
        """
        clock = asyncio.get_running_loop().time
        began_s = clock()
        hit = [
            address
            for name, address in self._stack.services.items()
            if kind.target not in SERVICES or name.rpartition("-")[0] == kind.target
        ]
        try:
            async with asyncio.timeout(RECOVERY_MAX_S), asyncio.TaskGroup() as group:
                for account in self._accounts:
                    group.create_task(self._until_posted(account))
                for address in hit:
                    group.create_task(self._until_ready(address))
        except TimeoutError:
            return None
        return clock() - began_s

    async def _until_posted(self, account: str) -> None:
        body = {"account": account, "amount": "0.01", "asset": self._asset}
        await _until(POSTED, lambda: self._post("/v1/deposits", body, f"{self._run}-probe-{next(self._numbers)}"))

    async def _until_ready(self, address: str) -> None:
        await _until(READY, lambda: self._status("GET", f"{address}/readyz"))

    async def _post(self, path: str, body: Mapping[str, str], key: str) -> int:
        gateway = self._stack.gateways[next(self._numbers) % len(self._stack.gateways)]
        headers = {"Idempotency-Key": key, "Prefer": "wait=1"}
        return await self._status("POST", gateway + path, body, headers)

    async def _status(
        self, method: str, url: str, body: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> int:
        timeout = aiohttp.ClientTimeout(total=TRY_MAX_S)
        try:
            async with self._session.request(method, url, json=body, headers=headers, timeout=timeout) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0


async def _until(wanted: int, ask: Callable[[], Awaitable[int]]) -> None:
    while True:
        if await ask() == wanted:
            return
        await asyncio.sleep(POLL_S)


def accounts_of_partitions(prefix: str, partitions: int) -> Sequence[str]:
    """An account name for each partition, in their order."""
    found: dict[int, str] = {}
    for number in itertools.count():
        account = f"{prefix}-{number}"
        found.setdefault(partition_of(AccountId(account), partitions), account)
        if len(found) == partitions:
            return [found[partition] for partition in sorted(found)]
    raise AssertionError
