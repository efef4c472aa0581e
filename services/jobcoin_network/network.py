"""The network in memory, and the one task that makes its transactions durable: many with each sync of the disk."""

import asyncio
from collections.abc import Callable
from time import perf_counter

import structlog
from prometheus_client import Counter, Histogram

from services.jobcoin_network.core.instances import (
    CoinMovement,
    Instance,
    InstanceName,
    Instances,
    NetworkRefusal,
    PlacedTransaction,
)
from services.jobcoin_network.core.wire import InstanceJson
from services.jobcoin_network.store import SqliteStore

log = structlog.get_logger()

TRANSACTIONS = Counter("jobcoin_transactions", "Transactions committed")
COMMIT_SECONDS = Histogram("jobcoin_commit_seconds", "Time to write and sync one batch")


class NetworkFullError(Exception):
    """The network keeps no further instance."""


class NotDurableError(Exception):
    """A commit failed: what a response would tell of may be lost, so the response is not given."""


class Network:
    """Decides in memory at once. `durable` waits until what was decided has reached the disk."""

    def __init__(self, store: SqliteStore, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._clock_ms = clock_ms
        self._instances = Instances(store.transactions())
        self._json: dict[InstanceName, InstanceJson] = {}
        self._unwritten: list[PlacedTransaction] = []
        self._appended = 0
        self._committed = 0
        self._is_ending = False
        self._is_failed = False
        self._work = asyncio.Event()
        self._progress = asyncio.Condition()

    def instance(self, name: InstanceName) -> Instance:
        """The instance, made now if this is its first use. Raises NetworkFullError."""
        placed = self._instances.begin(name, self._clock_ms())
        if isinstance(placed, NetworkRefusal):
            raise NetworkFullError(placed)
        self._to_write(*placed)
        return self._instances.by_name[name]

    def json(self, name: InstanceName) -> InstanceJson:
        """The instance as its API shows it. Raises NetworkFullError."""
        instance = self.instance(name)
        return self._json.setdefault(name, InstanceJson(instance))

    def apply(self, name: InstanceName, movement: CoinMovement) -> PlacedTransaction | NetworkRefusal:
        """Applies the movement or refuses it. Raises NetworkFullError."""
        self.instance(name)
        outcome = self._instances.apply(name, movement, self._clock_ms())
        if isinstance(outcome, PlacedTransaction):
            self._to_write(outcome)
        return outcome

    async def durable(self) -> None:
        """Waits until everything decided so far would survive a kill. Raises NotDurableError."""
        target = self._appended
        if self._committed >= target:
            return
        async with self._progress:
            await self._progress.wait_for(lambda: self._is_failed or self._committed >= target)
        if self._committed < target:
            raise NotDurableError

    async def write(self) -> None:
        """Commits what has gathered, again and again, until `end` was called and nothing is left."""
        try:
            while await self._has_work():
                placed, self._unwritten = self._unwritten, []
                started_s = perf_counter()
                await asyncio.to_thread(self._store.commit, placed)
                COMMIT_SECONDS.observe(perf_counter() - started_s)
                TRANSACTIONS.inc(len(placed))
                await self._advance(len(placed))
        except BaseException:
            self._is_failed = True
            await self._advance(0)
            raise

    def end(self) -> None:
        """Lets `write` return once everything is committed."""
        self._is_ending = True
        self._work.set()

    async def _has_work(self) -> bool:
        while not self._unwritten and not self._is_ending:
            self._work.clear()
            await self._work.wait()
        return bool(self._unwritten)

    async def _advance(self, committed: int) -> None:
        async with self._progress:
            self._committed += committed
            self._progress.notify_all()

    def _to_write(self, *placed: PlacedTransaction) -> None:
        if placed:
            self._unwritten.extend(placed)
            self._appended += len(placed)
            self._work.set()
