"""Where a store lives: a journal in memory, or a database of a real server."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from services.ledger_worker.ports import Store, StoreFault
from services.ledger_worker.store import PostgresStore
from shared.database.postgres import connect
from shared.domain.ids import AccountId, Partition
from tests.backends.databases import Database
from tests.builders import Commands, account_in
from tests.contract.conditions import eventually_async
from tests.contract.scribe import PARTITIONS
from tests.twins.clock import LoopClock
from tests.twins.faults import Fault
from tests.twins.journal import Journal
from tests.twins.store import MemoryStore

MAKE = Commands()
END_WHO_WAITS = """
SELECT bool_or(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE datname = current_database() AND usename = 'tellerline_worker' AND wait_event_type = 'Lock'
"""


@dataclass(slots=True)
class TwinLedger:
    """Many workers' stores on one journal in memory."""

    journal: Journal = field(default_factory=lambda: Journal(PARTITIONS, lambda: LoopClock().now_ns() // 1_000))

    def store(self, owner: str) -> Store:
        return MemoryStore(self.journal, owner)

    async def waiting_for(self) -> list[str | None]:
        """Why nothing is decided, by partition."""
        return [row.waiting_for for row in self.journal.owners]

    async def waiting_s(self) -> list[int]:
        """For how many seconds the oldest message has waited, by partition."""
        return [round(row.waiting_s) for row in self.journal.owners]

    async def kill(self, store: Store) -> None:
        """The store's process dies."""
        assert isinstance(store, MemoryStore)
        store.kill()

    async def lost_while(self, store: Store, commit: Coroutine[Any, Any, dict[Partition, int]]) -> dict[Partition, int]:
        """Awaits the commit, whose connection is lost meanwhile."""
        assert isinstance(store, MemoryStore)
        store.fail_next("commit", Fault.LOST_BEFORE)
        return await commit

    async def close(self) -> None:
        pass


@dataclass(slots=True)
class PostgresLedger:
    """The same on a real one."""

    database: Database
    copy_operations_min: int
    stores: list[PostgresStore] = field(default_factory=list[PostgresStore])

    def store(self, owner: str) -> Store:
        self.stores.append(PostgresStore(self.database.worker, owner, copy_operations_min=self.copy_operations_min))
        return self.stores[-1]

    async def waiting_for(self) -> list[str | None]:
        """Why nothing is decided, by partition."""
        connection = await connect(self.database.gateway, application="tests")
        try:
            rows = await connection.fetch("SELECT waiting_for FROM ledger.partitions ORDER BY partition")
        finally:
            await connection.close()
        return [row["waiting_for"] for row in rows]

    async def waiting_s(self) -> list[int]:
        """For how many seconds the oldest message has waited, by partition."""
        connection = await connect(self.database.gateway, application="tests")
        try:
            rows = await connection.fetch(
                "SELECT coalesce(extract(epoch FROM clock_timestamp() - waiting_since), 0)::integer AS s"
                "  FROM ledger.partitions ORDER BY partition"
            )
        finally:
            await connection.close()
        return [row["s"] for row in rows]

    async def kill(self, store: Store) -> None:
        """The store's process dies: the server finds its connections closed."""
        assert isinstance(store, PostgresStore)
        await store.close()

    async def lost_while(self, _: Store, commit: Coroutine[Any, Any, dict[Partition, int]]) -> dict[Partition, int]:
        """Awaits the commit, whose connection is lost while it waits for a lock that we hold."""
        connection = await connect(self.database.owner, application="tests")
        try:
            async with connection.transaction(), asyncio.TaskGroup() as group:
                await connection.execute("SELECT * FROM ledger.partitions FOR UPDATE")
                committing = group.create_task(_fault_of(commit))
                await eventually_async(lambda: connection.fetchval(END_WHO_WAITS))
                fault = await committing
        finally:
            await connection.close()
        raise fault

    async def close(self) -> None:
        for store in self.stores:
            await store.close()


async def _fault_of(commit: Coroutine[Any, Any, object]) -> Exception:
    try:
        await commit
    except StoreFault as fault:
        return fault
    return AssertionError("the commit went well")


Ledger = TwinLedger | PostgresLedger


def spread() -> tuple[AccountId, AccountId, AccountId]:
    """Two accounts of partition 0 and one of partition 1."""
    return account_in(0), account_in(0), account_in(1)
