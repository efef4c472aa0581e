"""The network in memory, and the one task that makes it durable: many transactions to a sync."""

import asyncio
from collections.abc import Callable
from time import perf_counter

import structlog
from prometheus_client import Counter, Histogram

from services.jobcoin_network.core.chain import Chain, Movement, Refusal
from services.jobcoin_network.core.wire import Listing
from services.jobcoin_network.core.world import InstanceName, Row, World
from services.jobcoin_network.store import Store

log = structlog.get_logger()

TRANSACTIONS = Counter("jobcoin_transactions", "Transactions committed")
COMMIT_SECONDS = Histogram("jobcoin_commit_seconds", "Time to write and sync one batch")


class NetworkFullError(Exception):
    """No further instance is kept."""


class NotDurableError(Exception):
    """The disk refused a commit: what an answer would tell of may be lost, so the answer is not given."""


class Network:
    """Decides in memory at once; `durable` tells when what was decided on has reached the disk."""

    def __init__(self, store: Store, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._clock_ms = clock_ms
        self._world = World(store.rows())
        self._listings = {name: Listing(chain) for name, chain in self._world.chains.items()}
        self._unwritten: list[Row] = []
        self._appended = 0
        self._committed = 0
        self._ending = False
        self._failed = False
        self._work = asyncio.Event()
        self._progress = asyncio.Condition()

    def chain(self, name: InstanceName) -> Chain:
        """The instance, made now if this is its first use. Raises NetworkFullError."""
        rows = self._world.begin(name, self._clock_ms())
        if isinstance(rows, Refusal):
            raise NetworkFullError(rows)
        self._to_write(*rows)
        return self._world.chains[name]

    def listing(self, name: InstanceName) -> Listing:
        """The instance's transactions as its API shows them. Raises NetworkFullError."""
        chain = self.chain(name)
        return self._listings.setdefault(name, Listing(chain))

    def apply(self, name: InstanceName, movement: Movement) -> Row | Refusal:
        """Apply the movement or refuse it; nothing else happens in between. Raises NetworkFullError."""
        self.chain(name)
        outcome = self._world.apply(name, movement, self._clock_ms())
        if isinstance(outcome, Row):
            self._to_write(outcome)
        return outcome

    async def durable(self) -> None:
        """Wait until everything decided so far outlives a kill. Raises NotDurableError."""
        target = self._appended
        if self._committed >= target:
            return
        async with self._progress:
            await self._progress.wait_for(lambda: self._failed or self._committed >= target)
        if self._committed < target:
            raise NotDurableError

    async def write(self) -> None:
        """Commit whatever has gathered, again and again, until `end` was called and nothing is left."""
        try:
            while await self._has_work():
                rows, self._unwritten = self._unwritten, []
                started_s = perf_counter()
                await asyncio.to_thread(self._store.commit, rows)
                COMMIT_SECONDS.observe(perf_counter() - started_s)
                TRANSACTIONS.inc(len(rows))
                await self._advance(len(rows))
        except BaseException:
            self._failed = True
            await self._advance(0)
            raise

    def end(self) -> None:
        """Let `write` return once everything is committed."""
        self._ending = True
        self._work.set()

    async def _has_work(self) -> bool:
        while not self._unwritten and not self._ending:
            self._work.clear()
            await self._work.wait()
        return bool(self._unwritten)

    async def _advance(self, rows: int) -> None:
        async with self._progress:
            self._committed += rows
            self._progress.notify_all()

    def _to_write(self, *rows: Row) -> None:
        if rows:
            self._unwritten.extend(rows)
            self._appended += len(rows)
            self._work.set()
