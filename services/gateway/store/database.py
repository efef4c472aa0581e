"""The pool, and the one fault that the rest of the gateway knows of it."""

import time
from collections.abc import Sequence
from typing import Final

import asyncpg

from shared.database import postgres

# How long a request waits for a connection and its rows together.
WITHIN_S: Final = 5.0

# The statement did not end with rows, and nothing is wrong with the statement itself.
FAULTS: Final = (
    *postgres.CONNECTION_FAULTS,
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

    def __init__(self, pool: postgres.Pool) -> None:
        self._pool = pool

    async def rows(self, statement: str, *arguments: object, within_s: float = WITHIN_S) -> Sequence[asyncpg.Record]:
        """All rows. `within_s`: seconds for the connection and the rows together."""
        until_s = time.monotonic() + within_s
        try:
            async with self._pool.acquire(timeout=within_s) as connection:
                try:
                    return await connection.fetch(statement, *arguments, timeout=until_s - time.monotonic())
                except TimeoutError:
                    # The pool would first tell a silent database to stop, and wait for it to hear (measured: 5 s more).
                    connection.terminate()
                    raise
        except FAULTS as fault:
            raise DatabaseUnavailable(repr(fault)) from fault

    async def row(self, statement: str, *arguments: object, within_s: float = WITHIN_S) -> asyncpg.Record | None:
        """The first row, if there is one. `within_s` as above."""
        found = await self.rows(statement, *arguments, within_s=within_s)
        return found[0] if found else None

    async def execute(self, statement: str, *arguments: object) -> None:
        """No rows."""
        await self.rows(statement, *arguments)
