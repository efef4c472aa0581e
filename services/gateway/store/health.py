"""Reads the database's durability settings, its schema version, and the constants of its ledger."""

import json
from collections.abc import Mapping

from services.gateway.store.database import Database
from shared.database.durability import DURABILITY
from shared.database.migrate import READ_PARTITIONS, READ_VERSIONS, known_migrations
from shared.database.secret_fingerprints import READ_FINGERPRINTS
from shared.domain.values import value


async def read_durability(database: Database) -> dict[str, str]:
    """Setting → value, of those that decide whether a commit may be lost. Raises DatabaseUnavailable."""
    return {str(row["name"]): str(row["setting"]) for row in await database.rows(DURABILITY)}


READ_ONLY = "SELECT current_setting('transaction_read_only') = 'on' AS is_read_only"


async def is_read_only(database: Database) -> bool:
    """Whether the database takes no writes. A session keeps its mode, so new ones are made before the next look.

    Raises DatabaseUnavailable.
    """
    row = await database.row(READ_ONLY)
    found = row is not None and bool(row["is_read_only"])
    if found:
        await database.reconnect()
    return found


@value
class PartitionFacts:
    """A partition and its worker. `silent_s`: since its last heartbeat; None if it has given none.

    `waiting_for`: why the worker says that it decides nothing there; None while it goes on.
    """

    partition: int
    owner: str | None
    silent_s: float | None
    waiting_for: str | None


READ_SERVED = """
SELECT p.partition, p.owner, extract(epoch FROM clock_timestamp() - w.seen_at)::float8 AS silent_s,
       p.waiting_for
  FROM ledger.partitions p LEFT JOIN ledger.workers w ON w.id = p.owner ORDER BY p.partition
"""


async def read_served(database: Database) -> list[PartitionFacts]:
    """Every partition. Raises DatabaseUnavailable."""
    rows = await database.rows(READ_SERVED)
    return [PartitionFacts(**row) for row in rows]


@value
class ProcessFacts:
    """A process of the mixer. `silent_s`: seconds since its report; `missing`: the part that is not ready → why."""

    service: str
    silent_s: float
    missing: Mapping[str, str]


READ_PROCESSES = """
SELECT service, extract(epoch FROM clock_timestamp() - seen_at)::float8 AS silent_s, missing FROM mixer.processes
"""


async def read_processes(database: Database) -> list[ProcessFacts]:
    """Every process of the mixer that was started and not stopped on purpose. Raises DatabaseUnavailable."""
    rows = await database.rows(READ_PROCESSES)
    return [ProcessFacts(row["service"], row["silent_s"], json.loads(row["missing"])) for row in rows]


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
