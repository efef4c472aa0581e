"""Runs SQL on the connection pool, and turns every failure to reach PostgreSQL into one exception."""

import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import asyncpg

from services.gateway.store.shares import SERVING, ShareExceeded, Shares
from shared.database import postgres

# How long a request waits for a connection and its rows together.
WITHIN_S: Final = 5.0

# How soon a statement ends whose connection was given up after a time-out, and at the latest otherwise.
SESSION: Final = {"client_connection_check_interval": "500ms", "statement_timeout": "15s"}

# Exceptions of a server or connection that cannot answer now; errors of the statement itself are not among them.
FAULTS: Final = (
    *postgres.TRANSIENT_FAULTS,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)


class DatabaseUnavailable(Exception):
    """PostgreSQL did not answer, or not in time."""


class TooManyStatements(DatabaseUnavailable):
    """All connections that the caller may use were in use for too long."""


class Database:
    """Runs statements on a pool. Every method raises DatabaseUnavailable.

    `reads`, `writes`: the shares of its connections that requests which read, and those which write, have.
    """

    def __init__(self, pool: postgres.Pool, reads: Shares | None = None, writes: Shares | None = None) -> None:
        self._pool = pool
        self._reads = reads
        self._writes = writes

    async def rows(self, statement: str, *arguments: object, within_s: float = WITHIN_S) -> Sequence[asyncpg.Record]:
        """All rows. `within_s`: seconds for the connection and the rows together."""
        until_s = time.monotonic() + within_s
        serving = SERVING.get()
        shares = None if serving is None else self._writes if serving.is_write else self._reads
        if shares is None or serving is None:
            return await self._run(statement, arguments, until_s)
        try:
            await shares.wait(serving.principal, within_s)
        except ShareExceeded as fault:
            raise TooManyStatements(str(fault)) from fault
        try:
            return await self._run(statement, arguments, until_s)
        finally:
            shares.give_back(serving.principal)

    async def row(self, statement: str, *arguments: object, within_s: float = WITHIN_S) -> asyncpg.Record | None:
        """The first row, if there is one. `within_s` as above."""
        found = await self.rows(statement, *arguments, within_s=within_s)
        return found[0] if found else None

    async def reconnect(self) -> None:
        """Each connection is replaced before its next use."""
        await self._pool.expire_connections()

    async def _run(self, statement: str, arguments: Sequence[object], until_s: float) -> Sequence[asyncpg.Record]:
        try:
            async with self._pool.acquire(timeout=until_s - time.monotonic()) as connection:
                try:
                    return await connection.fetch(statement, *arguments, timeout=until_s - time.monotonic())
                except postgres.OUTDATED_FAULTS:  # the statement had no effect, or was a read
                    return await connection.fetch(statement, *arguments, timeout=until_s - time.monotonic())
                except TimeoutError:
                    # The pool would first send a cancel request and wait for its answer (measured: 5 s more). By the
                    # settings of SESSION the server itself ends the statement soon.
                    connection.terminate()
                    raise
        except FAULTS as fault:
            raise DatabaseUnavailable(repr(fault)) from fault


def fields(row: asyncpg.Record) -> dict[str, Any]:
    """Column name → value, to build a value class with fields of the same names. `numeric` amounts become `int`."""
    return {name: int(found) if isinstance(found, Decimal) else found for name, found in row.items()}
