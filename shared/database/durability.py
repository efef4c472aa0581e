"""What a service asks of a database before it works with it: the schema that it knows, and durable commits."""

from typing import Final

from shared.database import postgres
from shared.database.migrate import READ_PARTITIONS, check_schema

DURABILITY = """
SELECT name, setting FROM pg_settings
 WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes') ORDER BY name
"""
UNSAFE: Final = "off"


class NotDurable(Exception):
    """The database would lose what it acknowledges."""


async def unsafe_settings(connection: postgres.Connection) -> dict[str, str]:
    """The settings of this session under which an acknowledged commit could be lost."""
    rows = await connection.fetch(DURABILITY)
    return {str(row["name"]): str(row["setting"]) for row in rows if row["setting"] == UNSAFE}


async def read_ledger_constants(dsn: str, *, application: str) -> int:
    """P, once schema and durability are as they must be.

    Raises MigrationError, NotDurable or a fault of the connection.
    """
    connection = await postgres.connect(dsn, application=application)
    try:
        await check_schema(connection)
        unsafe = await unsafe_settings(connection)
        if unsafe:
            raise NotDurable(f"refusing to serve: {unsafe}")
        return int(await connection.fetchval(READ_PARTITIONS))
    finally:
        await connection.close()
