"""The connection whose every statement sees the same instant, and COPY as a stream of lines."""

import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Final

import asyncpg

from shared.database import postgres
from tellerline.verification.findings import Violated

DATABASE_FAULTS: Final = (*postgres.CONNECTION_FAULTS, asyncpg.PostgresError)
# In effect no time-out: a large journal may take hours.
STATEMENT_MAX_S: Final = 30 * 86_400.0

Lines = Callable[[list[str]], None]
Connection = postgres.Connection

# By index and in its order: sorting or hashing a whole table would write it to PostgreSQL's disk once more. The rows of
# one window are sorted in memory.
BEGIN: Final = """
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL work_mem = '64MB';
SET LOCAL search_path = pg_catalog;
SET LOCAL bytea_output = 'hex';
SET LOCAL extra_float_digits = 1;
SET LOCAL max_parallel_workers_per_gather = 0;
SET LOCAL jit = off;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_sort = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
"""


@contextlib.asynccontextmanager
async def snapshot(dsn: str) -> AsyncGenerator[Connection]:
    """A connection whose every statement sees the same instant. Raises what is in DATABASE_FAULTS."""
    connection = await postgres.connect(dsn, application="tellerline verify", command_timeout_s=STATEMENT_MAX_S)
    try:
        await connection.execute(BEGIN)
        yield connection
    finally:
        await connection.close()


async def copy(connection: Connection, query: str, take: Lines) -> None:
    """Hands over the lines of a COPY as they come, without their newline."""
    rest = b""

    async def read(chunk: bytes) -> None:
        nonlocal rest
        whole, newline, rest = (rest + chunk).rpartition(b"\n")
        if newline:
            take(whole.decode().split("\n"))

    try:
        await connection.copy_from_query(query, output=read)
    except Violated:
        # asyncpg waits for ever for the end of a COPY whose reader has failed. Nothing more is asked after a violation.
        connection.terminate()
        raise
