"""SQL of `verify` for what crosses between partitions: transit rows folded or waiting, credits cleared."""

from collections.abc import AsyncGenerator
from typing import Final

import asyncpg

from tellerline.verification.batches import ClearedCredit
from tellerline.verification.crossings import FoldedRow
from tellerline.verification.pairs import WaitingRow
from tellerline.verification.store import CURSOR_ROWS, Connection

READ_FOLDED: Final = """
SELECT s.destination, s.batch, s.source, s.source_batch, t.credits
  FROM ledger.settlements s LEFT JOIN ledger.transit t
    ON t.source = s.source AND t.batch = s.source_batch AND t.destination = s.destination
 ORDER BY s.destination, s.batch, s.source, s.source_batch
"""
READ_WAITING: Final = """
SELECT t.source, t.batch, t.destination, t.credits FROM ledger.transit t
 WHERE NOT EXISTS (SELECT FROM ledger.settlements s
                    WHERE s.source = t.source AND s.source_batch = t.batch AND s.destination = t.destination)
 ORDER BY t.destination, t.source, t.batch
"""


async def read_waiting(connection: Connection) -> AsyncGenerator[WaitingRow]:
    """Transit rows that no settlement names."""
    async for row in connection.cursor(READ_WAITING, prefetch=CURSOR_ROWS):
        yield WaitingRow(int(row[0]), int(row[1]), int(row[2]), str(row[3]))


def folded_row(row: asyncpg.Record) -> FoldedRow:
    """A row that READ_FOLDED read."""
    return FoldedRow(int(row["source"]), int(row["source_batch"]), row["credits"])


# A row of transit names the operations whose credits wait in it; the others of its batch were cleared.
IS_CLEARED: Final = """
o.outcome = 'posted' AND o.postings IS NOT NULL AND b.cleared <> '{}' AND NOT EXISTS (
       SELECT FROM ledger.transit t WHERE t.source = o.partition AND t.batch = o.batch
          AND t.destination = other.partition AND position('["' || o.id::text || '",' IN t.credits) > 0)"""
READ_CLEARED: Final = f"""
SELECT other.partition, other.batch, o.id::text, o.postings
  FROM ledger.entries other
  JOIN ledger.operations o ON o.id = other.operation_id AND o.partition <> other.partition
  JOIN ledger.batches b ON b.partition = o.partition AND b.batch = o.batch
 WHERE {IS_CLEARED} AND (b.cleared::jsonb->>other.partition::text)::bigint = other.batch
 GROUP BY other.partition, other.batch, o.id, o.postings ORDER BY other.partition, other.batch
"""  # noqa: S608 - constants of this file
READ_UNCLEARED: Final = f"""
SELECT o.id::text, other.id, (b.cleared::jsonb->>other.partition::text)::bigint
  FROM ledger.batches b JOIN ledger.operations o ON o.partition = b.partition AND o.batch = b.batch
 CROSS JOIN LATERAL json_array_elements(o.postings::json) p
  JOIN ledger.accounts other ON other.id = p->>1 AND other.partition <> o.partition
 WHERE {IS_CLEARED} AND NOT EXISTS (
       SELECT FROM ledger.entries e WHERE e.account_id = other.id AND e.operation_id = o.id
          AND e.batch = (b.cleared::jsonb->>other.partition::text)::bigint)
 LIMIT 1
"""  # noqa: S608 - constants of this file


READ_UNREADABLE: Final = r"""
SELECT partition, batch, cleared FROM ledger.batches
 WHERE cleared !~ '^\{("\d{1,3}":\d{1,18}(,"\d{1,3}":\d{1,18})*)?\}$' ORDER BY partition, batch LIMIT 1
"""


async def read_unreadable(connection: Connection) -> tuple[str, str] | None:
    """A batch whose `cleared` the statements here could not read: its key and the text."""
    row = await connection.fetchrow(READ_UNREADABLE)
    return None if row is None else (f"{row[0]}/{row[1]}", str(row[2]))


async def read_uncleared(connection: Connection) -> tuple[str, str, int] | None:
    """An operation whose credit is not where its batch says that it was cleared: operation, account, batch."""
    row = await connection.fetchrow(READ_UNCLEARED)
    return None if row is None else (str(row[0]), str(row[1]), int(row[2]))


def cleared_credit(row: asyncpg.Record) -> ClearedCredit:
    """A row that READ_CLEARED read."""
    return ClearedCredit(*tuple(row)[2:])
