"""What waits for an operator: amounts in suspense, credits that have not landed, and who serves the partitions."""

from datetime import datetime

from services.gateway.store.database import Database, fields
from shared.domain.values import value
from shared.journal.suspense import READ_SUSPENSE, READ_SUSPENSE_ITEM


@value
class SuspenseItem:
    """An amount on a suspense account, in minor units. `operation_id`: the return that could not land, or None.

    `resolved_by`: the operation that moved it on.
    """

    account_id: str
    seq: int
    asset: str
    amount: int
    operation_id: str | None
    recorded_at: datetime
    resolved_by: str | None


async def list_suspense(
    database: Database, after: tuple[str, int], limit: int, *, resolved: bool
) -> list[SuspenseItem]:
    """Items after this one, by account and seq; with `resolved` also what is done. Raises DatabaseUnavailable."""
    rows = await database.rows(READ_SUSPENSE, *after, resolved, limit)
    return [SuspenseItem(**fields(row)) for row in rows]


async def read_suspense_item(database: Database, account: str, seq: int) -> SuspenseItem | None:
    """One item, resolved or not. Raises DatabaseUnavailable."""
    row = await database.row(READ_SUSPENSE_ITEM, account, seq)
    return None if row is None else SuspenseItem(**fields(row))


@value
class UnsettledRow:
    """A transit row that its destination has not taken in. `credits`: its content, as shared.journal.transit."""

    source: int
    batch: int
    destination: int
    credits: str
    recorded_at: datetime


LIST_UNSETTLED = """
WITH heads AS (
    SELECT p.partition, coalesce(b.cursors, '{}')::jsonb AS cursors
      FROM ledger.partitions p LEFT JOIN LATERAL (
           SELECT cursors FROM ledger.batches WHERE partition = p.partition ORDER BY batch DESC LIMIT 1) AS b ON true)
SELECT t.source, t.batch, t.destination, t.credits, b.recorded_at
  FROM heads d CROSS JOIN heads s CROSS JOIN LATERAL (
       SELECT * FROM ledger.transit
        WHERE destination = d.partition AND source = s.partition
          AND batch > coalesce((d.cursors->>s.partition::text)::bigint, 0)
          AND (destination, source, batch) > ($1::smallint, $2::smallint, $3::bigint)
        ORDER BY batch LIMIT $4) AS t
  JOIN ledger.batches b ON b.partition = t.source AND b.batch = t.batch
 ORDER BY t.destination, t.source, t.batch LIMIT $4
"""


async def list_unsettled(database: Database, after: tuple[int, int, int], limit: int) -> list[UnsettledRow]:
    """Rows after this (destination, source, batch), in that order. Raises DatabaseUnavailable."""
    return [UnsettledRow(**row) for row in await database.rows(LIST_UNSETTLED, *after, limit)]


@value
class PartitionOwner:
    """Who serves a partition until when, and its last batch: 0 and None before the first.

    `waiting_since`: since when its owner has had the oldest message that is not decided; None if there is none.
    """

    partition: int
    owner: str | None
    lease_expires_at: datetime | None
    batch: int
    recorded_at: datetime | None
    waiting_since: datetime | None


READ_PARTITION_OWNERS = """
SELECT p.partition, p.owner, nullif(p.lease_expires_at, '-infinity') AS lease_expires_at, coalesce(b.batch, 0) AS batch,
       b.recorded_at, p.waiting_since
  FROM ledger.partitions p LEFT JOIN LATERAL (
       SELECT batch, recorded_at FROM ledger.batches WHERE partition = p.partition ORDER BY batch DESC LIMIT 1) AS b
       ON true
 ORDER BY p.partition
"""


async def read_partition_owners(database: Database) -> list[PartitionOwner]:
    """Every partition. Raises DatabaseUnavailable."""
    return [PartitionOwner(**row) for row in await database.rows(READ_PARTITION_OWNERS)]
