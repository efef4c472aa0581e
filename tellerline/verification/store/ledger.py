"""Small tables, and what is asked of the ledger as a whole."""

from collections.abc import AsyncIterable, Mapping, Sequence
from typing import Final

import asyncpg

from shared.database.migrate import READ_PARTITIONS
from shared.journal.rows import HASHED_COLUMNS, LINE_ORDER, PLACE
from tellerline.verification.store.snapshot import Connection

# Each holds up to some thousand credits.
WAITING_ROWS: Final = 20

READ_OWNERS: Final = "SELECT partition, epoch FROM ledger.partitions ORDER BY partition"
READ_FOREIGN_BATCH: Final = """
SELECT partition, batch FROM ledger.batches WHERE partition < 0 OR partition >= $1 ORDER BY partition, batch LIMIT 1
"""


async def read_partitions(connection: Connection) -> int:
    """The ledger's number of partitions."""
    return int(await connection.fetchval(READ_PARTITIONS))


async def read_epochs(connection: Connection) -> dict[int, int]:
    """Partition → epoch of its owner."""
    return {int(row["partition"]): int(row["epoch"]) for row in await connection.fetch(READ_OWNERS)}


async def read_foreign_batch(connection: Connection, partitions: int) -> str | None:
    """The key of a batch whose partition the ledger does not have; None if there is none."""
    row = await connection.fetchrow(READ_FOREIGN_BATCH, partitions)
    return None if row is None else f"{row['partition']}/{row['batch']}"


READ_ASSETS: Final = """
SELECT a.code, a.scale, a.name, a.operation_id::text, o.subject, o.metadata
  FROM ledger.assets a LEFT JOIN ledger.operations o
    ON o.id = a.operation_id AND o.kind = 'asset.create.v1' AND o.outcome = 'posted'
 ORDER BY a.code
"""


async def read_assets(connection: Connection) -> Sequence[asyncpg.Record]:
    """Every asset: code, scale, name, operation_id, and subject and metadata of the operation that made it."""
    return await connection.fetch(READ_ASSETS)


READ_WAITING: Final = """
SELECT t.source, t.batch, t.destination, t.credits
  FROM unnest($1::smallint[], $2::smallint[], $3::bigint[]) AS w (destination, source, cursor)
 CROSS JOIN LATERAL (
       SELECT * FROM ledger.transit
        WHERE destination = w.destination AND source = w.source AND batch > w.cursor ORDER BY batch OFFSET 0) AS t
"""
READ_UNSETTLED: Final = """
SELECT t.source, t.batch, t.destination, t.credits FROM ledger.transit t
 WHERE NOT EXISTS (SELECT FROM ledger.settlements s
                    WHERE s.source = t.source AND s.source_batch = t.batch AND s.destination = t.destination)
 ORDER BY t.destination, t.source, t.batch
"""


def read_waiting(connection: Connection, cursors: Mapping[int, Mapping[int, int]]) -> AsyncIterable[asyncpg.Record]:
    """Transit rows past their destination's cursor: source, batch, destination, credits.

    `cursors`: destination → source → the last batch taken in.
    """
    places = [(to, source, taken.get(source, 0)) for to, taken in cursors.items() for source in cursors]
    columns = [[place[part] for place in places] for part in range(3)]
    return connection.cursor(READ_WAITING, *columns, prefetch=WAITING_ROWS)


def read_unsettled(connection: Connection) -> AsyncIterable[asyncpg.Record]:
    """As `read_waiting`, but the rows that no settlement names, wherever the cursors are: reads both tables whole."""
    return connection.cursor(READ_UNSETTLED, prefetch=WAITING_ROWS)


async def count_rows(connection: Connection, table: str) -> int:
    """How many rows the table has."""
    # Counting a whole table is the one thing that a sequential scan does best.
    await connection.execute("SET LOCAL enable_seqscan = on")
    rows = int(await connection.fetchval(f"SELECT count(*) FROM ledger.{table}"))  # noqa: S608 - as below
    await connection.execute("SET LOCAL enable_seqscan = off")
    return rows


READ_LOST_ENTRY: Final = """
SELECT e.account_id, e.seq FROM ledger.entries e
 WHERE NOT EXISTS (SELECT FROM ledger.accounts a WHERE a.id = e.account_id) ORDER BY 1, 2 LIMIT 1
"""


async def read_lost_entry(connection: Connection) -> tuple[str, int] | None:
    """Account and seq of an entry of an account that does not exist; None if there is none."""
    row = await connection.fetchrow(READ_LOST_ENTRY)
    return None if row is None else (str(row[0]), int(row[1]))


# Of tables whose rows are not named by what orders them in a batch.
KEYS: Final[Mapping[str, Sequence[str]]] = {
    **{table: HASHED_COLUMNS[table][:2] for table in ("operations", "entries")},
    "listed": ("list", "reference", "asset", "kind"),
}


async def read_orphan(connection: Connection, table: str) -> str | None:
    """The key and place of a row whose batch does not exist; None if there is none."""
    where, batch = PLACE.get(table, ("partition", "batch"))
    key = KEYS.get(table) or LINE_ORDER[table]
    columns = ", ".join(f"t.{column}::text" for column in key)
    row = await connection.fetchrow(
        f"SELECT t.{where}, t.{batch}, {columns} FROM ledger.{table} t WHERE NOT EXISTS ("  # noqa: S608 - names of shared.journal.rows
        f"SELECT FROM ledger.batches b WHERE b.partition = t.{where} AND b.batch = t.{batch}) LIMIT 1"
    )
    return None if row is None else f"{'/'.join(str(value) for value in tuple(row)[2:])} in batch {row[0]}/{row[1]}"
