"""Lists of transactions, newest first, each in an order that added rows do not change: by the commit that lists them.

A list is read from ledger.listed, where every filter leads straight to its rows. The first entries of an account are
not listed there: so few are read one by one.
"""

from datetime import UTC, datetime
from typing import Final

from services.gateway.store.database import Database
from services.gateway.store.transactions import COLUMNS, EFFECTS, Reader, TransactionFacts, facts_of
from shared.domain.ids import AccountId
from shared.domain.values import value
from shared.journal.rows import ENTRIES_UNLISTED

END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)
START_OF_TIME: Final = datetime.min.replace(tzinfo=UTC)
# The kinds of operations that move money.
KINDS: Final = ("deposit.v1", "withdrawal.v1", "transfer.v1", "hold.capture.v1", "return.v1")


@value
class TransactionFilter:
    """None filters nothing. `kind` is the journal's, such as `transfer.v1`; `after` is exclusive, `until` inclusive."""

    account: AccountId | None = None
    asset: str | None = None
    kind: str | None = None
    reference: str | None = None
    after: datetime | None = None
    until: datetime | None = None


@value
class ListPlace:
    """Where a row stands in a list: instant and partition of the batch that lists it, and the line in that batch.

    A page begins with the newest row that is older than such a place.
    """

    recorded_at: datetime
    partition: int
    line: int


@value
class ListedTransaction:
    """A transaction and its place in the list that was asked for."""

    transaction: TransactionFacts
    place: ListPlace


def _stream(rows: str, asset: str) -> str:
    """One stream of rows for each kind, of which each gives as many as the page may need.

    The parameters: $1 and $2 the reader, $3 list, $4 reference, $5 kinds, $6 after, $7 until, $8 to $10 the place,
    $11 limit.
    """
    return f"""(
       SELECT {rows} l.recorded_at, l.partition, u.line, u.operation
         FROM ledger.listed l CROSS JOIN LATERAL unnest(l.lines, l.operations) AS u (line, operation)
        WHERE l.list = $3 AND l.reference = $4 AND l.kind = s.kind AND l.asset {asset}
          AND l.recorded_at > $6 AND l.recorded_at <= least($7::timestamptz, $8)
          AND (l.recorded_at, l.partition, u.line) < ($8, $9::integer, $10::integer)
        ORDER BY l.recorded_at DESC, l.partition DESC, u.line DESC LIMIT $11)"""  # noqa: S608 - constants


PAGE: Final = f"""
        ORDER BY recorded_at DESC, partition DESC, line DESC LIMIT $11)
SELECT {COLUMNS}, page.recorded_at AS shown_at, page.partition AS shown_partition, page.line AS shown_line
  FROM page JOIN ledger.operations o ON o.id = page.operation {EFFECTS}
 ORDER BY page.recorded_at DESC, page.partition DESC, page.line DESC
"""  # noqa: S608 - constants


def _list_of(stream: str) -> str:
    return f"""
WITH page AS (
       SELECT rows.* FROM unnest($5::text[]) AS s (kind) CROSS JOIN LATERAL {stream} rows
{PAGE}"""  # noqa: S608 - constants


# A walk along the index listed_of_all_assets, in which a transaction of several assets stands several times.
LIST_TRANSACTIONS = _list_of(_stream("DISTINCT", "<> ''"))
LIST_OF_ASSET = _list_of(_stream("", "= $12"))

# The batch of entry `e`, by its key: OFFSET 0 keeps the planner from reading all batches between two instants instead,
# which it does while there are few of them.
BATCH_OF_ENTRY: Final = """(
       SELECT recorded_at FROM ledger.batches WHERE partition = e.partition AND batch = e.batch OFFSET 0)"""

# $12 is the asset, $13 the account. The account's own asset filters nothing.
LIST_OF_ACCOUNT = f"""
WITH account AS (
       SELECT a.id, CASE WHEN $12 = a.asset THEN NULL ELSE $12 END AS asset
         FROM ledger.accounts a WHERE a.id = $13 AND ($1 OR a.owner = $2)),
     streams AS (
       SELECT k.kind, coalesce(account.asset, '') AS asset FROM account CROSS JOIN unnest($5::text[]) AS k (kind)),
     listed AS MATERIALIZED (
       SELECT rows.* FROM streams s CROSS JOIN LATERAL {_stream("", "= s.asset")} rows
        ORDER BY recorded_at DESC, partition DESC, line DESC LIMIT $11),
     page AS (
       SELECT * FROM listed
        UNION ALL
       (SELECT b.recorded_at, e.partition, e.line, o.id
          FROM ledger.entries e
          JOIN ledger.operations o ON o.id = e.operation_id AND o.kind = ANY($5) AND ($4 = '' OR o.reference = $4)
         CROSS JOIN LATERAL {BATCH_OF_ENTRY} b
         WHERE (SELECT count(*) FROM listed) < $11
           AND e.account_id = (SELECT id FROM account)
           AND e.seq <= {ENTRIES_UNLISTED} AND e.delta <> 0
           AND b.recorded_at > $6 AND b.recorded_at <= $7
           AND (b.recorded_at, e.partition, e.line) < ($8, $9, $10)
           AND ((SELECT asset FROM account) IS NULL OR EXISTS (
                SELECT 1 FROM json_array_elements(o.postings::json) p WHERE p->>3 = (SELECT asset FROM account)))
         ORDER BY e.seq DESC LIMIT $11)
{PAGE}"""  # noqa: S608 - constants


async def list_transactions(
    database: Database, reader: Reader, wanted: TransactionFilter, place: ListPlace, limit: int
) -> list[ListedTransaction]:
    """Transactions older than `place`: of the account if the reader may see it, else all for an admin or the reader's.

    Raises DatabaseUnavailable.
    """
    owned = "ledger" if reader.admin else f"owner:{reader.principal}"
    arguments = (
        reader.admin,
        reader.principal,
        owned if wanted.account is None else f"account:{wanted.account}",
        wanted.reference or "",
        KINDS if wanted.kind is None else (wanted.kind,),
        wanted.after or START_OF_TIME,
        wanted.until or END_OF_TIME,
        place.recorded_at,
        place.partition,
        place.line,
        limit,
    )
    if wanted.account is not None:
        rows = await database.rows(LIST_OF_ACCOUNT, *arguments, wanted.asset, wanted.account)
    elif wanted.asset is not None:
        rows = await database.rows(LIST_OF_ASSET, *arguments, wanted.asset)
    else:
        rows = await database.rows(LIST_TRANSACTIONS, *arguments)
    return [
        ListedTransaction(
            facts_of(row),
            ListPlace(row["shown_at"], row["shown_partition"], row["shown_line"]),
        )
        for row in rows
    ]
