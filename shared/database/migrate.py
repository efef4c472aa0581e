"""Migrates a database to the schema of this version, and creates the partitions of a new ledger.

Migrations are numbered `.sql` files, applied once each, forward only, each in its own transaction, with a checksum: a
file that changed after it was applied is an error. One process does this at a time (advisory lock); running it again
is harmless.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog

from shared.database import postgres
from shared.database.secret_fingerprints import check_before_migration, write_fingerprints
from shared.domain.values import value
from shared.runtime.ledger_secrets import LedgerSecrets

log = structlog.get_logger()

MIGRATIONS: Final = Path(__file__).parent / "migrations"
ROLES: Final = ("gateway", "worker", "poller", "distributor", "verify")
LOCK_KEY: Final = 7_430_611


class MigrationError(Exception):
    """The database does not have the schema of this version, or cannot be migrated to it."""


class PartitionsFixed(MigrationError):
    """The ledger has another number of partitions than was asked for."""


@value
class Migration:
    """One file of migrations/. `version`: the number at the start of its name."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known_migrations() -> list[Migration]:
    """All migrations, by number. Raises MigrationError if a number is missing or used twice."""
    found = [
        Migration(int(path.name[:4]), path.stem, path.read_text(encoding="utf-8"))
        for path in sorted(MIGRATIONS.glob("*.sql"))
    ]
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError(f"migration numbers are not 1 … n: {[migration.name for migration in found]}")
    return found


CREATE_VERSIONS = """
CREATE TABLE IF NOT EXISTS public.tellerline_schema (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT ON public.tellerline_schema TO PUBLIC
"""
READ_VERSIONS = "SELECT version, checksum FROM public.tellerline_schema ORDER BY version"
WRITE_VERSION = "INSERT INTO public.tellerline_schema (version, name, checksum) VALUES ($1, $2, $3)"
ROLE_EXISTS = "SELECT 1 FROM pg_roles WHERE rolname = $1"
LEDGER_EXISTS = "SELECT to_regclass('ledger.constants') IS NOT NULL"
READ_PARTITIONS = "SELECT partitions FROM ledger.constants"
WRITE_CONSTANTS = "INSERT INTO ledger.constants (partitions) VALUES ($1) ON CONFLICT DO NOTHING"
WRITE_PARTITIONS = """
INSERT INTO ledger.partitions (partition) SELECT p FROM generate_series(0, $1::integer - 1) AS p ON CONFLICT DO NOTHING
"""
ROLE_SETTINGS: Final[Mapping[str, str]] = {
    "statement_timeout": "5s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10s",
    "synchronous_commit": "on",
    "search_path": "ledger",
    "timezone": "UTC",
}


def agreed_partitions(held: int | None, asked: int | None, *, of_new: int = 1) -> int:
    """The ledger's number of partitions: `held` if it exists, otherwise `asked`, or by default `of_new`.

    Raises PartitionsFixed when it has another number than was asked for.
    """
    if held is None:
        return of_new if asked is None else asked
    if asked not in {None, held}:
        raise PartitionsFixed(
            f"the ledger has {held} partition{'s' * (held > 1)}, not {asked}: the number is fixed when it is created"
        )
    return held


async def read_partitions(dsn: str) -> int | None:
    """How many partitions the ledger has; None before it is created. Raises what is in postgres.CONNECTION_FAULTS."""
    connection = await postgres.connect(dsn, application="tellerline")
    try:
        return await _partitions(connection)
    finally:
        await connection.close()


async def _partitions(connection: postgres.Connection) -> int | None:
    if not await connection.fetchval(LEDGER_EXISTS):
        return None
    held = await connection.fetchval(READ_PARTITIONS)
    return None if held is None else int(held)


async def migrate_database(
    dsn: str, *, partitions: int | None, passwords: Mapping[str, str], secrets: LedgerSecrets
) -> int:
    """Creates roles, schema and partitions; returns how many partitions. `partitions`: `asked` of `agreed_partitions`.

    A new ledger takes these secrets; an existing one must have them, or have `secrets.previous` and takes the new one.
    Raises MigrationError, SecretsRefused, or what is in postgres.CONNECTION_FAULTS; after PartitionsFixed and
    SecretsRefused nothing was changed.
    """
    connection = await postgres.connect(dsn, application="tellerline migrate", command_timeout_s=86_400.0)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK_KEY)
        await connection.execute("SET lock_timeout = '10s'")
        held = await _partitions(connection)
        agreed = agreed_partitions(held, partitions)
        if held is not None:
            await check_before_migration(connection, secrets)
        await _write_roles(connection, passwords)
        await connection.execute(CREATE_VERSIONS)
        await _apply(connection, known_migrations())
        await connection.execute(WRITE_CONSTANTS, agreed)
        await connection.execute(WRITE_PARTITIONS, agreed)
        await write_fingerprints(connection, secrets)
        return agreed
    finally:
        await connection.close()


async def _write_roles(connection: postgres.Connection, passwords: Mapping[str, str]) -> None:
    for role in ROLES:
        name = f"tellerline_{role}"
        if not await connection.fetchval(ROLE_EXISTS, name):
            await connection.execute(f"CREATE ROLE {name} LOGIN")
            for setting, value in ROLE_SETTINGS.items():
                await connection.execute(f"ALTER ROLE {name} SET {setting} = '{value}'")
        if role in passwords:
            statement = await connection.fetchval(
                f"SELECT format('ALTER ROLE {name} PASSWORD %L', $1::text)", passwords[role]
            )
            await connection.execute(str(statement))
    # `verify` reads the whole journal, which takes longer than any time-out for statements.
    await connection.execute("ALTER ROLE tellerline_verify SET statement_timeout = 0")


async def _apply(connection: postgres.Connection, migrations: Sequence[Migration]) -> None:
    applied = {int(row["version"]): str(row["checksum"]) for row in await connection.fetch(READ_VERSIONS)}
    if max(applied, default=0) > len(migrations):
        raise MigrationError(f"the database has schema {max(applied)}, this version knows {len(migrations)}")
    for migration in migrations:
        if migration.version in applied:
            if applied[migration.version] != migration.checksum:
                raise MigrationError(f"migration {migration.name} changed after it was applied")
            continue
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(WRITE_VERSION, migration.version, migration.name, migration.checksum)
        log.info("migration.applied", name=migration.name)


async def check_schema(connection: postgres.Connection) -> None:
    """Raises MigrationError unless the database has exactly the schema that this version knows."""
    applied = [int(row["version"]) for row in await connection.fetch(READ_VERSIONS)]
    known = [migration.version for migration in known_migrations()]
    if applied != known:
        raise MigrationError(
            f"the database has schema {applied[-1:]}, this version needs {known[-1:]}: run `tellerline migrate`"
        )
