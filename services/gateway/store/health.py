"""What must be switched on in the database, and what never changes in the ledger."""

from services.gateway.store.database import Database
from shared.database.durability import DURABILITY
from shared.database.migrate import READ_VERSIONS, known_migrations


async def read_durability(database: Database) -> dict[str, str]:
    """What decides whether a commit may be lost, as this session has it. Raises DatabaseUnavailable."""
    return {str(row["name"]): str(row["setting"]) for row in await database.rows(DURABILITY)}


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
