"""Lists of transactions, newest first, each in an order that added rows do not change.

Of an account: by the account's sequence numbers. Of an owner: by the commit of one entry per transaction (the source's
if the owner has the source, else the destination's). All, or with a reference: by the commit of the operation.
"""

from datetime import UTC, datetime
from typing import Final

from services.gateway.store.database import Database
from services.gateway.store.transactions import COLUMNS, Reader, TransactionFacts, with_effects
from shared.domain.ids import AccountId, partition_of
from shared.domain.values import value
from shared.journal.transit import RETURN_KIND

END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)
START_OF_TIME: Final = datetime.min.replace(tzinfo=UTC)


@value
class TransactionFilter:
    """None filters nothing; `after` and `before` are exclusive. `kind` is the journal's, such as `transfer.v1`."""

    account: AccountId | None = None
    asset: str | None = None
    kind: str | None = None
    reference: str | None = None
    after: datetime | None = None
    before: datetime | None = None


@value
class ListPlace:
    """A row's position: by `seq` in the list of an account, in other lists by the three others. A page is older."""

    recorded_at: datetime
    partition: int
    line: int
    seq: int


@value
class ListedTransaction:
    """A transaction and its place in the list that was asked for."""

    transaction: TransactionFacts
    place: ListPlace


# The first parameters of every list: $1 asset, $2 kind, $3 reference, $4 after, $5 before.
IS_WANTED: Final = """
o.outcome = 'posted' AND o.postings IS NOT NULL
   AND ($1::text IS NULL OR EXISTS (SELECT 1 FROM json_array_elements(o.postings::json) p WHERE p->>3 = $1))
   AND ($2::text IS NULL OR o.kind = $2) AND ($3::text IS NULL OR o.reference = $3)"""

LIST_OF_ACCOUNT = f"""
SELECT {COLUMNS}, b.recorded_at AS shown_at, o.partition AS shown_partition, o.line AS shown_line, e.seq AS shown_seq
  FROM ledger.entries e
  JOIN ledger.operations o ON o.id = e.operation_id
  JOIN ledger.batches b ON b.partition = o.partition AND b.batch = o.batch
 WHERE e.account_id = $6 AND e.delta <> 0 AND e.seq < $8
   AND e.seq > ledger.seq_until($6, ledger.batch_until($7::integer, $4::timestamptz))
   AND e.seq <= ledger.seq_until($6, ledger.batch_until($7::integer, $5::timestamptz - interval '1 microsecond'))
   AND {IS_WANTED}
 ORDER BY e.seq DESC LIMIT $9
"""  # noqa: S608 - constants of this file

BY_COMMIT: Final = f"""
SELECT {COLUMNS}, b.recorded_at AS shown_at, o.partition AS shown_partition, o.line AS shown_line, 0 AS shown_seq
  FROM ledger.batches b JOIN ledger.operations o ON o.partition = b.partition AND o.batch = b.batch
 WHERE {IS_WANTED} AND b.recorded_at > $4 AND b.recorded_at < $5
   AND b.recorded_at <= $6 AND (b.recorded_at, b.partition, o.line) < ($6, $7::integer, $8::integer)"""  # noqa: S608 - constants
NEWEST_FIRST: Final = " ORDER BY b.recorded_at DESC, b.partition DESC, o.line DESC LIMIT $9"

LIST_ALL = BY_COMMIT + NEWEST_FIRST
LIST_OF_REFERENCE = f"""{BY_COMMIT} AND o.reference = $3
   AND ($10 OR EXISTS (
        SELECT 1 FROM json_array_elements(o.postings::json) p JOIN ledger.accounts a ON a.id IN (p->>0, p->>1)
         WHERE a.owner = $11)){NEWEST_FIRST}"""  # noqa: S608 - constants of this file

# Only the accounts with the newest last entries can hold entries of the page. A transfer between two accounts of the
# owner is listed once, by the entry of its source; so twice as many accounts as rows are read, and some more. A return
# has one entry only, that of its destination: the account that it names as its source never got the credit.
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
SELECT {COLUMNS}, shown.shown_at, shown.shown_partition, shown.shown_line, 0 AS shown_seq
  FROM shown
  JOIN ledger.operations o ON o.id = shown.operation_id
  JOIN ledger.batches b ON b.partition = o.partition AND b.batch = o.batch
 ORDER BY shown.shown_at DESC, shown.shown_partition DESC, shown.shown_line DESC
"""  # noqa: S608 - constants of this file


async def list_transactions(
    database: Database, reader: Reader, wanted: TransactionFilter, place: ListPlace, limit: int
) -> list[ListedTransaction]:
    """Transactions older than `place`: of the account, else with the reference, else all for an admin or the reader's.

    The caller must have made sure that the reader may see the account. Raises DatabaseUnavailable.
    """
    filters = wanted.asset, wanted.kind, wanted.reference, wanted.after or START_OF_TIME, wanted.before or END_OF_TIME
    commit = place.recorded_at, place.partition, place.line
    if wanted.account is not None:
        partition = partition_of(wanted.account, reader.partitions)
        rows = await database.rows(LIST_OF_ACCOUNT, *filters, wanted.account, partition, place.seq, limit)
    elif wanted.reference is not None:
        rows = await database.rows(LIST_OF_REFERENCE, *filters, *commit, limit, reader.admin, reader.principal)
    elif reader.admin:
        rows = await database.rows(LIST_ALL, *filters, *commit, limit)
    else:
        rows = await database.rows(LIST_OF_OWNER, *filters, reader.principal, *commit, limit)
    complete = await with_effects(database, reader, rows)
    places = [ListPlace(row["shown_at"], row["shown_partition"], row["shown_line"], row["shown_seq"]) for row in rows]
    return [ListedTransaction(facts, place) for facts, place in zip(complete, places, strict=True)]
