"""Brings schema and broker topology to what this version knows: `python -m shared.migrate`, or `tellerline migrate`.

Migrations are numbered `.sql` files, applied once each, forward only, each in its own transaction, with a checksum: a
file that changed after it was applied is an error. One process does this at a time (advisory lock); running it again
is harmless.
"""

import asyncio
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import aio_pika
import structlog
from pydantic import Field, SecretStr

from shared import amqp, db, topology
from shared.ids import PARTITIONS_MAX, Partition
from shared.logs import configure_logs
from shared.settings import ServiceSettings
from shared.values import value

log = structlog.get_logger()

MIGRATIONS: Final = Path(__file__).parent / "migrations"
ROLES: Final = ("gateway", "worker", "poller", "distributor", "verify")
LOCK_KEY: Final = 7_430_611
# A queue declared less than this before a crash of the broker can come back empty (facts, §0.9).
SETTLE_AFTER_DECLARE_S: Final = 2.0


class MigrationError(Exception):
    """The database cannot be brought to the schema that this version knows."""


class MigrateSettings(ServiceSettings):
    """The owner's DSN, the broker, P for a new ledger, and the passwords of the login roles."""

    database_url: SecretStr
    amqp_url: SecretStr | None = None
    partitions: int = Field(default=4, ge=1, le=PARTITIONS_MAX)
    role_password_gateway: SecretStr | None = None
    role_password_worker: SecretStr | None = None
    role_password_poller: SecretStr | None = None
    role_password_distributor: SecretStr | None = None
    role_password_verify: SecretStr | None = None

    def passwords(self) -> dict[str, str]:
        """Login role → password, for those that are set."""
        given = {role: getattr(self, f"role_password_{role}") for role in ROLES}
        return {role: secret.get_secret_value() for role, secret in given.items() if isinstance(secret, SecretStr)}


@value
class Migration:
    """One file of migrations/."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known_migrations() -> list[Migration]:
    """Every migration, in order of its number. Raises MigrationError when numbers have a gap or a twin."""
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
WRITE_CONSTANTS = "INSERT INTO ledger.constants (partitions) VALUES ($1) ON CONFLICT DO NOTHING"
READ_PARTITIONS = "SELECT partitions FROM ledger.constants"
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


async def migrate_database(dsn: str, *, partitions: int, passwords: Mapping[str, str]) -> int:
    """Roles, migrations, P. Returns P as the ledger holds it.

    Raises MigrationError, or what is in db.CONNECTION_FAULTS.
    """
    connection = await db.connect(dsn, application="tellerline migrate", command_timeout_s=600.0)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK_KEY)
        await connection.execute("SET lock_timeout = '10s'")
        await _write_roles(connection, passwords)
        await connection.execute(CREATE_VERSIONS)
        await _apply(connection, known_migrations())
        await connection.execute(WRITE_CONSTANTS, partitions)
        held = int(await connection.fetchval(READ_PARTITIONS))
        if held != partitions:
            log.warning("partitions.fixed", held=held, asked=partitions)
        await connection.execute(WRITE_PARTITIONS, held)
        return held
    finally:
        await connection.close()


async def _write_roles(connection: db.Connection, passwords: Mapping[str, str]) -> None:
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
    # `verify` reads the whole journal.
    await connection.execute("ALTER ROLE tellerline_verify SET statement_timeout = 0")


async def _apply(connection: db.Connection, migrations: Sequence[Migration]) -> None:
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


async def check_schema(connection: db.Connection) -> None:
    """Raises MigrationError unless the database has exactly the schema that this version knows."""
    applied = [int(row["version"]) for row in await connection.fetch(READ_VERSIONS)]
    known = [migration.version for migration in known_migrations()]
    if applied != known:
        raise MigrationError(
            f"the database has schema {applied[-1:]}, this version needs {known[-1:]}: run `tellerline migrate`"
        )


async def declare_topology(amqp_url: str, *, partitions: int) -> None:
    """Exchanges, queues and bindings; passive first. Waits until new queues survive a crash of the broker.

    Raises what is in amqp.LINK_FAULTS.
    """
    connection = await amqp.connect_comfortably(amqp_url, name="tellerline migrate")
    try:
        created = await _declare_queues(connection, partitions)
    finally:
        await connection.close()
    if created:
        log.info("topology.created", queues=created)
        await asyncio.sleep(SETTLE_AFTER_DECLARE_S)


async def _declare_queues(connection: aio_pika.abc.AbstractConnection, partitions: int) -> int:
    channel = await connection.channel()
    for exchange, kind in topology.EXCHANGES.items():
        await channel.declare_exchange(exchange, aio_pika.ExchangeType(kind), durable=True)
    wanted = [
        (topology.PARKING_QUEUE, topology.PARKING_QUEUE_ARGUMENTS, topology.DEAD_LETTERS, topology.PARKING_KEY),
        (topology.MIX_QUEUE, topology.MIX_QUEUE_ARGUMENTS, topology.MIXER, topology.MIX_KEY),
        *(
            (
                topology.partition_queue(p),
                topology.PARTITION_QUEUE_ARGUMENTS,
                topology.COMMANDS,
                topology.partition_key(p),
            )
            for p in map(Partition, range(partitions))
        ),
    ]
    created = 0
    for name, arguments, exchange, key in wanted:
        created += not await _exists(connection, name)
        queue = await channel.declare_queue(name, durable=True, arguments=dict(arguments))
        await queue.bind(exchange, key)
    return created


async def _exists(connection: aio_pika.abc.AbstractConnection, queue: str) -> bool:
    channel = await connection.channel()  # a passive declare that fails closes its channel
    try:
        await channel.declare_queue(queue, passive=True)
    except aio_pika.exceptions.ChannelClosed:
        return False
    await channel.close()
    return True


async def migrate(settings: MigrateSettings) -> None:
    """Schema, then topology when a broker is given."""
    partitions = await migrate_database(
        settings.database_url.get_secret_value(),
        partitions=settings.partitions,
        passwords=settings.passwords(),
    )
    if settings.amqp_url is not None:
        await declare_topology(settings.amqp_url.get_secret_value(), partitions=partitions)
    log.info("migrate.done", partitions=partitions)


def main() -> None:
    """Entry point of `python -m shared.migrate`."""
    settings = MigrateSettings.load_or_exit()
    configure_logs("migrate", settings.log_format, settings.log_level)
    try:
        asyncio.run(migrate(settings))
    except (MigrationError, *db.CONNECTION_FAULTS, *amqp.LINK_FAULTS) as error:
        log.critical("migrate.failed", error=str(error) or repr(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
