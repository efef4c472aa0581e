"""The store's three connections, for commits, reads and leases. A lost one is opened again at its next use."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import asyncpg

from services.ledger_worker.ports import Fenced, RepeatFound, RowRefused, StaleRead, StoreFault, StoreUnavailable
from shared.database import postgres

Result = TypeVar("Result")

APPLICATION: Final = "ledger_worker"
# First key of the advisory locks by which workers are seen; the second is a hash of the worker's id.
PRESENCE_KEY: Final = 7_430_612
REPEAT_CONSTRAINT: Final = "operations_pkey"
FENCED_STATE: Final = "TL002"
STALE_STATE: Final = "TL003"
ROW_CLASSES: Final = ("22", "23", "TL")
# Every statement of the worker finds its rows by key. Prepared plans live as long as the connection, and one made while
# the tables were small would still use sequential scans after they have grown.
BY_KEY: Final = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}
# Held by each connection until it ends, however it ends: whoever gets the exclusive lock knows that no connection of
# this worker is left. Shared, so that the connections of one worker, or two ids of one hash, never wait for each other.
TAKE_PRESENCE_LOCK = "SELECT pg_advisory_lock_shared($1, hashtext($2))"


class Connections:
    """The connections "write", "read" and "lease". Each shows other workers that this one is there."""

    def __init__(self, dsn: str, owner: str) -> None:
        self._dsn = dsn
        self._owner = owner
        self._application = f"{APPLICATION} {owner}"
        self._connections: dict[str, postgres.Connection] = {}
        self._locks = {name: asyncio.Lock() for name in ("write", "read", "lease")}

    async def close(self) -> None:
        """Closes the connections."""
        for connection in self._connections.values():
            connection.terminate()
        self._connections.clear()

    async def _connected(self, name: str) -> postgres.Connection:
        """The connection of this name, opened if need be. Raises StoreUnavailable."""
        connection = self._connections.get(name)
        if connection is None or connection.is_closed():
            connection = self._connections[name] = await self._open()
        return connection

    async def _open(self) -> postgres.Connection:
        try:
            connection = await postgres.connect(self._dsn, application=self._application, settings=BY_KEY)
            try:
                await connection.execute(TAKE_PRESENCE_LOCK, PRESENCE_KEY, self._owner)
            except BaseException:
                connection.terminate()
                raise
        except (*postgres.CONNECTION_FAULTS, asyncpg.PostgresError) as error:
            raise StoreUnavailable(repr(error)) from error
        return connection

    def _drop(self, name: str) -> None:
        connection = self._connections.pop(name, None)
        if connection is not None:
            connection.terminate()

    async def _run(self, name: str, ask: Callable[[Any], Awaitable[Result]]) -> Result:
        async with self._locks[name]:
            connection = await self._connected(name)
            try:
                return await ask(connection)
            except postgres.CONNECTION_FAULTS as error:
                self._drop(name)
                raise StoreUnavailable(repr(error)) from error
            except asyncpg.PostgresError as error:
                raise StoreUnavailable(repr(error)) from error
            except asyncio.CancelledError:
                self._drop(name)
                raise


def fault_of(error: asyncpg.PostgresError) -> StoreFault:
    """The StoreFault for an error of the database that left nothing written, by SQLSTATE and constraint."""
    if isinstance(error, asyncpg.UniqueViolationError):
        repeat = error.constraint_name == REPEAT_CONSTRAINT
        return RepeatFound(str(error)) if repeat else StaleRead(f"{error.constraint_name}: {error}")
    state = error.sqlstate or ""
    if state == FENCED_STATE:
        return Fenced(str(error))
    if state == STALE_STATE:
        return StaleRead(str(error))
    if state[:2] in ROW_CLASSES:
        return RowRefused(f"{state}: {error}")
    return StoreUnavailable(f"{state}: {error}")
