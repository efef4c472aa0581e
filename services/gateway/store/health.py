"""What must be switched on in the database, and what never changes in the ledger."""

from collections.abc import Sequence

from services.gateway.store.database import Database
from shared.migrate import READ_VERSIONS, known_migrations

READ_SETTINGS = "SELECT name, setting FROM pg_settings WHERE name = ANY($1::text[])"


async def read_settings(database: Database, names: Sequence[str]) -> dict[str, str]:
    """Settings as this session has them. Raises DatabaseUnavailable."""
    return {str(row["name"]): str(row["setting"]) for row in await database.rows(READ_SETTINGS, list(names))}


READ_PARTITIONS = "SELECT partitions FROM ledger.constants"


async def read_partitions(database: Database) -> int | None:
    """P of this ledger; None before it was made. Raises DatabaseUnavailable."""
    row = await database.row(READ_PARTITIONS)
    return None if row is None else int(row["partitions"])


async def missing_of_schema(database: Database) -> str | None:
    """What is wrong with the schema; None when it is the one that this version knows. Raises DatabaseUnavailable."""
    applied = [int(row["version"]) for row in await database.rows(READ_VERSIONS)]
    known = [migration.version for migration in known_migrations()]
    return None if applied == known else f"version {applied[-1:]} is there, {known[-1:]} is known"
