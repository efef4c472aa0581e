"""The pool, and the one fault that the rest of the gateway knows of it."""

from collections.abc import Sequence
from typing import Final

import asyncpg

from shared import db

# How long a request waits for a connection; a statement has its own bound (shared.db).
ACQUIRE_TIMEOUT_S: Final = 5.0

# The statement did not end with rows, and nothing is wrong with the statement itself.
FAULTS: Final = (
    *db.CONNECTION_FAULTS,
    asyncpg.QueryCanceledError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InternalClientError,
)


class DatabaseUnavailable(Exception):
    """PostgreSQL did not answer, or not in time."""


class Database:
    """Runs statements on a pool. Every method raises DatabaseUnavailable."""

    def __init__(self, pool: db.Pool) -> None:
        self._pool = pool

    async def rows(self, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """All rows."""
        try:
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
                return await connection.fetch(statement, *arguments)
        except FAULTS as fault:
            raise DatabaseUnavailable(repr(fault)) from fault

    async def row(self, statement: str, *arguments: object) -> asyncpg.Record | None:
        """The first row, if there is one."""
        found = await self.rows(statement, *arguments)
        return found[0] if found else None

    async def execute(self, statement: str, *arguments: object) -> None:
        """No rows."""
        await self.rows(statement, *arguments)
