"""Lists of transactions, newest first. Each has an order of its own that never changes while rows are added.

By account: the account's own sequence. By owner: the commit of the entry that shows the transaction (the source's where
that is the owner's, else the destination's). All, or by reference: the commit of the operation.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from services.gateway.store.database import Database
from services.gateway.store.transactions import COLUMNS, Reader, TransactionFacts, with_effects
from shared.domain.values import value
from shared.journal.transit import RETURN_KIND

END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)
START_OF_TIME: Final = datetime.min.replace(tzinfo=UTC)


@value
class TransactionFilter:
    """None filters nothing; `after` and `before` are exclusive. `kind` is the journal's, such as `transfer.v1`."""

    asset: str | None = None
    kind: str | None = None
    reference: str | None = None
    after: datetime | None = None
    before: datetime | None = None


@value
class CommitPlace:
    """A row's place in the order of commits; rows before it are older."""

    recorded_at: datetime = END_OF_TIME
    partition: int = 0
    line: int = 0


@value
class ListedTransaction:
    """A transaction and its place in the list that was asked for."""

    transaction: TransactionFacts
    place: CommitPlace
    seq: int = 0


IS_WANTED: Final = """
o.outcome = 'posted' AND o.postings IS NOT NULL
   AND ($1::text IS NULL OR EXISTS (SELECT 1 FROM json_array_elements(o.postings::json) p WHERE p->>3 = $1))
   AND ($2::text IS NULL OR o.kind = $2) AND ($3::text IS NULL OR o.reference = $3)"""

LIST_OF_ACCOUNT = f"""
SELECT {COLUMNS}, b.recorded_at, e.seq
  FROM ledger.entries e
  JOIN ledger.operations o ON o.id = e.operation_id
  JOIN ledger.batches b ON b.partition = o.partition AND b.batch = o.batch
 WHERE e.account_id = $6 AND e.delta <> 0 AND e.seq < $8
   AND e.seq > ledger.seq_until($6, ledger.batch_until($7::integer, $4::timestamptz))
   AND e.seq <= ledger.seq_until($6, ledger.batch_until($7::integer, $5::timestamptz - interval '1 microsecond'))
   AND {IS_WANTED}
 ORDER BY e.seq DESC LIMIT $9
"""  # noqa: S608 - constants of this file


async def list_of_account(
    database: Database,
    reader: Reader,
    wanted: TransactionFilter,
    *,
    account: str,
    partition: int,
    seq_max: int,
    limit: int,
) -> list[ListedTransaction]:
    """Transactions that moved an account's balance. Raises DatabaseUnavailable."""
    rows = await database.rows(LIST_OF_ACCOUNT, *_arguments(wanted), account, partition, seq_max, limit)
    complete = await with_effects(database, reader, rows)
    return [ListedTransaction(facts, CommitPlace(), int(row["seq"])) for facts, row in zip(complete, rows, strict=True)]


BY_COMMIT: Final = f"""
SELECT {COLUMNS}, b.recorded_at
  FROM ledger.batches b JOIN ledger.operations o ON o.partition = b.partition AND o.batch = b.batch
 WHERE {IS_WANTED} AND b.recorded_at > $4 AND b.recorded_at < $5
   AND b.recorded_at <= $6 AND (b.recorded_at, b.partition, o.line) < ($6, $7::integer, $8::integer)"""  # noqa: S608 - constants
NEWEST_FIRST: Final = " ORDER BY b.recorded_at DESC, b.partition DESC, o.line DESC LIMIT $9"

LIST_ALL = BY_COMMIT + NEWEST_FIRST
LIST_OF_REFERENCE = f"""{BY_COMMIT} AND o.reference = $3
   AND ($10 OR EXISTS (
        SELECT 1 FROM json_array_elements(o.postings::json) p JOIN ledger.accounts a ON a.id IN (p->>0, p->>1)
         WHERE a.owner = $11)){NEWEST_FIRST}"""  # noqa: S608 - constants of this file


async def list_by_commit(
    database: Database, reader: Reader, wanted: TransactionFilter, *, place: CommitPlace, limit: int
) -> list[ListedTransaction]:
    """All transactions (for an admin), or those of a reference. Raises DatabaseUnavailable."""
    arguments = (*_arguments(wanted), place.recorded_at, place.partition, place.line, limit)
    if wanted.reference is None:
        rows = await database.rows(LIST_ALL, *arguments)
    else:
        rows = await database.rows(LIST_OF_REFERENCE, *arguments, reader.admin, reader.principal)
    complete = await with_effects(database, reader, rows)
    return [
        ListedTransaction(facts, CommitPlace(row["recorded_at"], int(row["partition"]), int(row["line"])))
        for facts, row in zip(complete, rows, strict=True)
    ]


# The newest entries stand in the accounts whose last entries are newest. An entry that the list leaves out (the owner's
# own other side shows the transaction) pairs with one that it shows: hence twice the page, and some more. A return has
# one entry only: nothing had landed at the account that it names as its source.
LIST_OF_OWNER = f"""
WITH bounds AS MATERIALIZED (
       SELECT partition, ledger.batch_until(partition, least($7, $5::timestamptz - interval '1 microsecond')) AS batch
         FROM ledger.partitions),
     heads AS (
       SELECT a.id, h.seq, t.recorded_at
         FROM ledger.accounts a JOIN bounds ON bounds.partition = a.partition
        CROSS JOIN LATERAL (SELECT ledger.seq_until(a.id, bounds.batch) AS seq) h
         JOIN ledger.entries e ON e.account_id = a.id AND e.seq = h.seq
         JOIN ledger.batches t ON t.partition = e.partition AND t.batch = e.batch
        WHERE a.owner = $6
        ORDER BY t.recorded_at DESC LIMIT 2 * $10 + 100),
     shown AS (
       SELECT e.* FROM heads CROSS JOIN LATERAL (
              SELECT e.operation_id, t.recorded_at AS shown_at, e.partition AS shown_partition, e.line AS shown_line
                FROM ledger.entries e
                JOIN ledger.batches t ON t.partition = e.partition AND t.batch = e.batch
                JOIN ledger.operations o ON o.id = e.operation_id
               WHERE e.account_id = heads.id AND e.seq <= heads.seq AND e.delta <> 0 AND {IS_WANTED}
                 AND t.recorded_at > $4
                 AND (t.recorded_at, e.partition, e.line) < ($7, $8::integer, $9::integer)
                 AND (e.delta < 0 OR o.kind = '{RETURN_KIND}' OR NOT EXISTS (
                      SELECT 1 FROM json_array_elements(o.postings::json) p
                        JOIN ledger.accounts mine ON mine.id = p->>0 WHERE mine.owner = $6))
               ORDER BY e.seq DESC LIMIT $10) e
        ORDER BY e.shown_at DESC, e.shown_partition DESC, e.shown_line DESC LIMIT $10)
SELECT {COLUMNS}, shown.shown_at, shown.shown_partition, shown.shown_line
  FROM shown
  JOIN ledger.operations o ON o.id = shown.operation_id
  JOIN ledger.batches b ON b.partition = o.partition AND b.batch = o.batch
 ORDER BY shown.shown_at DESC, shown.shown_partition DESC, shown.shown_line DESC
"""  # noqa: S608 - constants of this file


async def list_of_owner(
    database: Database, reader: Reader, wanted: TransactionFilter, *, place: CommitPlace, limit: int
) -> list[ListedTransaction]:
    """Transactions that touched an account of the reader's own. Raises DatabaseUnavailable."""
    rows = await database.rows(
        LIST_OF_OWNER,
        *_arguments(wanted),
        reader.principal,
        place.recorded_at,
        place.partition,
        place.line,
        limit,
    )
    complete = await with_effects(database, reader, rows)
    return [
        ListedTransaction(facts, CommitPlace(row["shown_at"], int(row["shown_partition"]), int(row["shown_line"])))
        for facts, row in zip(complete, rows, strict=True)
    ]


def _arguments(wanted: TransactionFilter) -> Sequence[object]:
    """What every statement here takes first: $1 asset, $2 kind, $3 reference, $4 after, $5 before."""
    return wanted.asset, wanted.kind, wanted.reference, wanted.after or START_OF_TIME, wanted.before or END_OF_TIME
