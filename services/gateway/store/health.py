"""Reads the database's durability settings, its schema version, and the constants of its ledger."""

from services.gateway.store.database import Database
from shared.database.durability import DURABILITY
from shared.database.migrate import READ_VERSIONS, known_migrations
from shared.database.secret_fingerprints import READ_FINGERPRINTS


async def read_durability(database: Database) -> dict[str, str]:
    """Setting → value, of those that decide whether a commit may be lost. Raises DatabaseUnavailable."""
    return {str(row["name"]): str(row["setting"]) for row in await database.rows(DURABILITY)}


READ_PARTITIONS = "SELECT partitions FROM ledger.constants"


async def read_partitions(database: Database) -> int | None:
    """The number of partitions; None if the ledger was not created yet. Raises DatabaseUnavailable."""
    row = await database.row(READ_PARTITIONS)
    return None if row is None else int(row["partitions"])


async def read_fingerprints(database: Database) -> tuple[str | None, str | None]:
    """Fingerprints of the naming key and of the secret; None if unknown. Raises DatabaseUnavailable."""
    row = await database.row(READ_FINGERPRINTS)
    return (None, None) if row is None else (row["naming_key"], row["secret"])


async def missing_of_schema(database: Database) -> str | None:
    """What is wrong with the schema; None when it is the one that this version knows. Raises DatabaseUnavailable."""
    applied = [int(row["version"]) for row in await database.rows(READ_VERSIONS)]
    known = [migration.version for migration in known_migrations()]
    return None if applied == known else f"version {applied[-1:]} is there, {known[-1:]} is known"
