"""Connections to PostgreSQL and pools of them, with the time-outs that all services use."""

import asyncio
import ssl
import uuid
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

import asyncpg
import structlog
from asyncpg.connection import LoggedQuery

from shared.runtime.refusal import StartRefused
from shared.runtime.retry import backoff_s

log = structlog.get_logger()

CONNECT_TIMEOUT_S: Final = 5.0
BACKEND = "SELECT pg_backend_pid()"
# With these words PgBouncer closes a connection that begins a transaction.
NO_TRANSACTIONS: Final = "not allowed in statement pooling mode"
MARK = "SELECT current_setting('tellerline.session', true)"
COMMAND_TIMEOUT_S: Final = 10.0

# The connection could not be made or was lost. A statement that was running may or may not have taken effect.
CONNECTION_FAULTS: Final = (
    OSError,
    TimeoutError,
    asyncio.IncompleteReadError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # The driver lost track of a connection that broke in the middle of an answer.
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    ssl.SSLError,
)
# A prepared statement does not fit the schema any more, because a migration was applied. It is prepared again.
OUTDATED_FAULTS: Final = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError)
# Faults for which a retry may succeed: the above, a lock time-out, a deadlock, a cancelled statement, a full disk, a
# server that is read-only.
TRANSIENT_FAULTS: Final = (
    *CONNECTION_FAULTS,
    *OUTDATED_FAULTS,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.DeadlockDetectedError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.OperatorInterventionError,
)

# For services all of whose statements find their rows by key: one plan for each statement, made without a look at how
# large the tables are or what the arguments say, so that it never becomes a worse one.
BY_KEY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        # A bitmap scan would read all of an account's entries to sort them, for a page of the newest.
        "enable_bitmapscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "enable_hashagg": "off",
    }
)

if TYPE_CHECKING:
    _Base = asyncpg.Connection[asyncpg.Record]
else:
    _Base = asyncpg.Connection


class _Session(_Base):
    """Ends when a statement finds it read-only.

    A session keeps the mode that it began with, and behind a pooler or an address that moves it may lead to a primary
    that was demoted: only a new one finds out that writes work again.
    """

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # pyright: ignore[reportArgumentType] asyncpg alone makes sessions
        self.add_query_logger(self._end_if_read_only)

    def _end_if_read_only(self, query: LoggedQuery) -> None:
        if isinstance(query.exception, asyncpg.ReadOnlySQLTransactionError):
            self.terminate()


class PoolerRefused(StartRefused):
    """Statements of one connection reach several sessions, so that locks and settings of a session mean nothing."""


Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


async def connect(
    dsn: str,
    *,
    application: str,
    command_timeout_s: float = COMMAND_TIMEOUT_S,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Connection:
    """One connection, whose session gets these settings. Raises what is in CONNECTION_FAULTS.

    They are set by statements: as parameters of the start a pooler refuses them, or drops them silently.
    """
    connection = await asyncpg.connect(
        dsn,
        connection_class=_Session,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=command_timeout_s,
        server_settings={"application_name": application},
    )
    try:
        await _set(connection, settings)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _set(connection: Connection, settings: Mapping[str, str]) -> None:
    if settings:
        await connection.execute("; ".join(f"SET {name} = '{value}'" for name, value in settings.items()))


async def check_sessions(dsn: str) -> None:
    """Raises PoolerRefused unless each connection is one session, or what is in CONNECTION_FAULTS."""
    first = await connect(dsn, application="tellerline start")
    try:
        second = await connect(dsn, application="tellerline start")
        try:
            are_own = await _have_own_sessions(first, second)
        except (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError):
            are_own = False  # it was prepared in another session
        except asyncpg.ConnectionDoesNotExistError as fault:
            if NO_TRANSACTIONS not in str(fault):
                raise
            are_own = False
        finally:
            second.terminate()
    finally:
        first.terminate()
    if not are_own:
        raise PoolerRefused(
            "TELLERLINE_DATABASE_URL leads to a pooler that shares sessions between connections (PgBouncer: pool_mode"
            " transaction or statement): use pool_mode = session, or the server's own address"
        )


async def _have_own_sessions(first: Connection, second: Connection) -> bool:
    if first.get_server_pid() == await first.fetchval(BACKEND):
        return True  # no pooler in between
    mark = uuid.uuid4().hex
    await first.execute(f"SET tellerline.session = '{mark}'")
    # While the second holds a session in a transaction, the first gets another one, unless it has its own.
    await second.execute("BEGIN")
    seen = await second.fetchval(MARK)
    return seen != mark and await first.fetchval(MARK) == mark


async def open_pool(
    dsn: str,
    *,
    application: str,
    size_max: int = 8,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Pool:
    """A pool of 1 … `size_max` connections, with these settings; idle ones are closed after a minute.

    Waits until the database answers. Raises PoolerRefused.

    What is done on a connection must leave its session as it was (no SET, LISTEN, cursor or advisory lock): it goes to
    the next user without the round trip that would reset it. An open transaction is rolled back.
    """
    attempt = 0
    while True:
        try:
            await check_sessions(dsn)
            return await asyncpg.create_pool(
                dsn,
                connection_class=_Session,
                min_size=1,
                max_size=size_max,
                max_inactive_connection_lifetime=60.0,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=COMMAND_TIMEOUT_S,
                server_settings={"application_name": application},
                init=partial(_set, settings=settings),
                reset=_keep_session,
            )
        except CONNECTION_FAULTS as fault:
            log.warning("database.unavailable", fault=repr(fault), attempt=attempt)
        await asyncio.sleep(backoff_s(attempt))
        attempt += 1


async def _keep_session(_: Connection) -> None:
    """Replaces asyncpg's reset of each session that comes back, which is a statement of its own."""
