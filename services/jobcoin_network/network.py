"""The network in memory, and how its transactions are made durable: many with each sync of the disk."""

import asyncio
from collections.abc import Callable
from time import perf_counter

from prometheus_client import Counter, Histogram

from services.jobcoin_network.core.instances import Instance, genesis
from services.jobcoin_network.core.transactions import CoinMovement, InstanceName, Transaction
from services.jobcoin_network.store import SqliteStore

TRANSACTIONS = Counter("jobcoin_transactions", "Transactions committed")
COMMIT_SECONDS = Histogram("jobcoin_commit_seconds", "Time to write and sync one batch")


class NetworkFullError(Exception):
    """The network keeps no further instance, or no further transaction."""


class NotDurableError(Exception):
    """A commit failed: what a response would tell of may be lost, so the response is not given."""


class Network:
    """All instances by name. They have nothing in common but the bounds. Each is made when it is first used.

    Decides in memory at once. `durable` waits until what was decided has reached the disk. `on_fault` is called once a
    commit failed: the service has to end then. The bounds say how much the network keeps, over all instances:
    `rows_bytes_max` of its transactions as they are listed, which is most of its memory.
    """

    def __init__(
        self,
        store: SqliteStore,
        clock_ms: Callable[[], int],
        *,
        on_fault: Callable[[], None],
        instances_max: int = 1_000,
        transactions_max: int = 2_000_000,
        rows_bytes_max: int = 512 * 1024 * 1024,
    ) -> None:
        self._store = store
        self._clock_ms = clock_ms
        self._on_fault = on_fault
        self._instances_max = instances_max
        self._transactions_max = transactions_max
        self._rows_bytes_max = rows_bytes_max
        self._rows_bytes = 0
        self._by_name: dict[InstanceName, Instance] = {}
        self._decided = 0
        for transaction in store.transactions():
            self._append(transaction)
        self._committed = self._decided
        self._unwritten: list[Transaction] = []
        self._committing = asyncio.Lock()
        # What ended a commit. After it nothing is committed any more.
        self.fault: BaseException | None = None

    def instance(self, name: InstanceName) -> Instance:
        """The instance, made now if this is its first use. Raises NetworkFullError."""
        if name not in self._by_name:
            if len(self._by_name) >= self._instances_max:
                raise NetworkFullError
            self._add(*genesis(name, self._clock_ms()))
        return self._by_name[name]

    def apply(self, name: InstanceName, movement: CoinMovement) -> None:
        """Applies the movement, whole or not at all. Raises InsufficientFundsError or NetworkFullError."""
        self._add(self.instance(name).decide(movement, self._clock_ms()))

    async def durable(self) -> None:
        """Waits until everything decided so far would survive a kill. Raises NotDurableError."""
        target = self._decided
        if self._committed < target:
            # Whoever holds the lock commits what has gathered, also for those who wait for it meanwhile.
            async with self._committing:
                if self._committed < target and self.fault is None:
                    await self._commit()
        if self._committed < target:
            raise NotDurableError

    async def _commit(self) -> None:
        transactions, self._unwritten = self._unwritten, []
        started_s = perf_counter()
        try:
            await asyncio.to_thread(self._store.commit, transactions)
        except BaseException as fault:  # also a cancellation, which leaves the commit's end unknown
            self.fault = fault
            self._on_fault()
            raise NotDurableError from fault
        COMMIT_SECONDS.observe(perf_counter() - started_s)
        TRANSACTIONS.inc(len(transactions))
        self._committed += len(transactions)

    def _add(self, *transactions: Transaction) -> None:
        if self._decided + len(transactions) > self._transactions_max or self._rows_bytes >= self._rows_bytes_max:
            raise NetworkFullError
        for transaction in transactions:
            self._append(transaction)
        self._unwritten += transactions

    def _append(self, transaction: Transaction) -> None:
        name = transaction.instance
        instance = self._by_name.get(name)
        if instance is None:
            instance = self._by_name[name] = Instance(name)
        before = instance.rows.list_bytes()
        instance.append(transaction)
        self._rows_bytes += instance.rows.list_bytes() - before
        self._decided += 1
