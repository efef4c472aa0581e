"""An account's entries, newest first."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from services.gateway.store.accounts import AccountState
from services.gateway.store.database import Database, fields
from services.gateway.store.transaction_lists import BATCH_OF_ENTRY, END_OF_TIME, START_OF_TIME
from shared.domain.values import value
from shared.journal.rows import ENTRIES_UNLISTED

SEQ_MAX: Final = 2**62  # above every sequence number of an account


@value
class EntryFacts:
    """One entry of an account. Amounts in minor units; `postings` are the operation's, as JSON text."""

    seq: int
    operation_id: str | None
    kind: str | None
    delta: int
    held_delta: int
    balance_after: int
    held_after: int
    postings: str | None
    recorded_at_us: int


@value
class EntryFilter:
    """Selects entries with seq < `seq_max`, recorded after `after` and not after `until`, of a kind like `transfer.v1`.

    None filters nothing.
    """

    seq_max: int
    after: datetime | None = None
    until: datetime | None = None
    kind: str | None = None


COLUMNS: Final = """
e.seq, e.operation_id::text AS operation_id, o.kind, e.delta, e.held_delta, e.balance_after, e.held_after, o.postings,
       ledger.us(b.recorded_at) AS recorded_at_us"""

LIST_ENTRIES = f"""
SELECT {COLUMNS}
  FROM ledger.entries e
  JOIN ledger.batches b ON b.partition = e.partition AND b.batch = e.batch
  LEFT JOIN ledger.operations o ON o.id = e.operation_id
 WHERE e.account_id = $1 AND e.seq < $3
   AND e.seq > CASE WHEN $4::timestamptz IS NULL THEN 0
                    ELSE ledger.seq_until($1, ledger.batch_until($2::integer, $4)) END
   AND e.seq <= CASE WHEN $5::timestamptz IS NULL THEN $3
                     ELSE ledger.seq_until($1, ledger.batch_until($2::integer, $5)) END
 ORDER BY e.seq DESC LIMIT $6
"""  # noqa: S608 - constants of this file

# Entries of one kind: those in the account's list of the kind, then the first ones, which are in no list. `bound` is
# the place of entry $2, where the page before ended.
LIST_ENTRIES_OF_KIND = f"""
WITH bound AS (
       SELECT b.recorded_at, e.line FROM ledger.entries e
         JOIN ledger.batches b ON b.partition = e.partition AND b.batch = e.batch
        WHERE e.account_id = $1 AND e.seq = $2),
     listed AS MATERIALIZED (
       SELECT l.recorded_at, l.partition, l.batch, u.line, u.operation
         FROM ledger.listed l CROSS JOIN LATERAL unnest(l.lines, l.operations) AS u (line, operation)
        WHERE l.list = 'account:' || $1 AND l.reference = '' AND l.kind = $5 AND l.asset = ''
          AND l.recorded_at > $3 AND l.recorded_at <= $4
          AND l.recorded_at <= coalesce((SELECT recorded_at FROM bound), 'infinity')
          AND (l.recorded_at, u.line) < (coalesce((SELECT recorded_at FROM bound), 'infinity'),
                                         coalesce((SELECT line FROM bound), 0))
        ORDER BY l.recorded_at DESC, l.partition DESC, u.line DESC LIMIT $6),
     page AS (
       SELECT e.* FROM listed l CROSS JOIN LATERAL (
              SELECT * FROM ledger.entries
               WHERE partition = l.partition AND batch = l.batch AND operation_id = l.operation
                 AND account_id || '' = $1 LIMIT 1) e
        UNION ALL
       (SELECT e.* FROM ledger.entries e
          JOIN ledger.operations o ON o.id = e.operation_id AND o.kind = $5
         CROSS JOIN LATERAL {BATCH_OF_ENTRY} b
         WHERE (SELECT count(*) FROM listed) < $6
           AND e.account_id = $1 AND e.seq <= {ENTRIES_UNLISTED} AND e.seq < $2
           AND b.recorded_at > $3 AND b.recorded_at <= $4
         ORDER BY e.seq DESC LIMIT $6)
        ORDER BY seq DESC LIMIT $6)
SELECT {COLUMNS}
  FROM page e
  JOIN ledger.batches b ON b.partition = e.partition AND b.batch = e.batch
  JOIN ledger.operations o ON o.id = e.operation_id
 ORDER BY e.seq DESC
"""  # noqa: S608 - constants of this file


async def list_entries(
    database: Database, account: AccountState, wanted: EntryFilter, *, limit: int
) -> Sequence[EntryFacts]:
    """The account's entries, newest first. Raises DatabaseUnavailable."""
    if wanted.kind is None:
        times = wanted.after, wanted.until
        rows = await database.rows(LIST_ENTRIES, account.id, account.partition, wanted.seq_max, *times, limit)
    else:
        times = wanted.after or START_OF_TIME, wanted.until or END_OF_TIME
        rows = await database.rows(LIST_ENTRIES_OF_KIND, account.id, wanted.seq_max, *times, wanted.kind, limit)
    return [EntryFacts(**fields(row)) for row in rows]
