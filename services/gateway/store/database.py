"""Runs SQL on the connection pool, and turns every failure to reach PostgreSQL into one exception."""

import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import asyncpg

from shared.database import postgres

# How long a request waits for a connection and its rows together.
WITHIN_S: Final = 5.0

# Exceptions of a server or connection that cannot answer now; errors of the statement itself are not among them.
FAULTS: Final = (
    *postgres.CONNECTION_FAULTS,
    asyncpg.QueryCanceledError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InternalClientError,
    asyncpg.ReadOnlySQLTransactionError,
    *postgres.OUTDATED_FAULTS,
)


class DatabaseUnavailable(Exception):
    """PostgreSQL did not answer, or not in time."""


class Database:
    """Runs statements on a pool. Every method raises DatabaseUnavailable."""

    def __init__(self, pool: postgres.Pool) -> None:
        self._pool = pool

    async def rows(self, statement: str, *arguments: object, within_s: float = WITHIN_S) -> Sequence[asyncpg.Record]:
        """All rows. `within_s`: seconds for the connection and the rows together."""
        until_s = time.monotonic() + within_s
        try:
            async with self._pool.acquire(timeout=within_s) as connection:
                try:
                    return await connection.fetch(statement, *arguments, timeout=until_s - time.monotonic())
                except postgres.OUTDATED_FAULTS:  # the statement had no effect, or was a read
                    return await connection.fetch(statement, *arguments, timeout=until_s - time.monotonic())
                except TimeoutError:
                    # The pool would first send a cancel request and wait for its answer (measured: 5 s more).
                    connection.terminate()
                    raise
        except FAULTS as fault:
            raise DatabaseUnavailable(repr(fault)) from fault

    async def row(self, statement: str, *arguments: object, within_s: float = WITHIN_S) -> asyncpg.Record | None:
        """The first row, if there is one. `within_s` as above."""
        found = await self.rows(statement, *arguments, within_s=within_s)
        return found[0] if found else None

    async def reconnect(self) -> None:
        """Each connection is replaced before its next use."""
        await self._pool.expire_connections()


def fields(row: asyncpg.Record) -> dict[str, Any]:
    """Column name → value, to build a value class with fields of the same names. `numeric` amounts become `int`."""
    return {name: int(found) if isinstance(found, Decimal) else found for name, found in row.items()}
