"""Transactions: operations that moved money, with what they did to the accounts that the caller may read."""

import json
from collections.abc import Mapping, Sequence
from typing import Final, cast

import asyncpg

from services.gateway.store.database import Database
from shared.domain.ids import AccountId, partition_of
from shared.domain.values import value
from shared.journal.transit import RETURN_KIND, return_id


@value
class PostingFacts:
    """`amount` in minor units."""

    source: str
    destination: str
    amount: int
    asset: str


@value
class TransactionFacts:
    """Balances in minor units after it; metadata is JSON text.

    `reverses` is the transaction that it gives back, `reversed_by` the one that gave it back.
    """

    id: str
    kind: str
    postings: Sequence[PostingFacts]
    balances: Mapping[str, int]
    settled: bool
    reference: str | None
    metadata: str | None
    recorded_at_us: int
    reverses: str | None = None
    reversed_by: str | None = None

    @property
    def accounts(self) -> frozenset[str]:
        """Every account named by a posting."""
        return frozenset(each for posting in self.postings for each in (posting.source, posting.destination))


@value
class Reader:
    """On whose behalf the journal is read. An admin sees everything."""

    principal: str
    admin: bool
    partitions: int


COLUMNS: Final = """
o.id::text AS id, o.kind, o.principal, o.partition, o.batch, o.line, o.postings, o.reference, o.metadata, o.subject,
       ledger.us(b.recorded_at) AS recorded_at_us"""

READ_TRANSACTION = f"""
SELECT {COLUMNS}
  FROM ledger.operations o JOIN ledger.batches b ON b.partition = o.partition AND b.batch = o.batch
 WHERE o.id = $1::text::uuid AND o.outcome = 'posted' AND o.postings IS NOT NULL
"""  # noqa: S608 - a constant of this file


async def read_transaction(database: Database, reader: Reader, transaction: str) -> TransactionFacts | None:
    """The transaction, if the reader sent it or owns one of its accounts. Raises DatabaseUnavailable."""
    row = await database.row(READ_TRANSACTION, transaction)
    if row is None:
        return None
    read = (await with_effects(database, reader, [row]))[0]
    is_seen = reader.admin or row["principal"] == reader.principal or bool(read.balances)
    return read if is_seen or await _owns_one(database, reader, read) else None


OWNS_ONE = "SELECT 1 FROM ledger.accounts WHERE id = ANY($1::text[]) AND owner = $2 LIMIT 1"


async def _owns_one(database: Database, reader: Reader, read: TransactionFacts) -> bool:
    return await database.row(OWNS_ONE, sorted(read.accounts), reader.principal) is not None


# For each operation and account: has its credit landed, what was the balance then, and was it returned. The entry is
# found by searching the account's sequence for the batch that it stands in: the operation's own, or the one that
# settled the transit row of the credit.
READ_EFFECTS = """
SELECT w.operation, w.account, p.batch IS NOT NULL AS landed, e.balance_after,
       (SELECT r.id::text FROM ledger.operations r WHERE r.id = w.return_id::uuid) AS reversed_by
  FROM unnest($1::text[], $2::text[], $3::integer[], $4::bigint[], $5::integer[], $6::text[])
       AS w(operation, account, source_partition, source_batch, partition, return_id)
  LEFT JOIN ledger.settlements s
    ON s.source = w.source_partition AND s.source_batch = w.source_batch AND s.destination = w.partition
 CROSS JOIN LATERAL (
       SELECT CASE WHEN w.partition = w.source_partition THEN w.source_batch ELSE s.batch END AS batch) p
  LEFT JOIN ledger.accounts a ON a.id = w.account AND ($7 OR a.owner = $8)
  LEFT JOIN LATERAL (
       SELECT balance_after FROM ledger.entries
        WHERE account_id = a.id AND operation_id = w.operation::uuid
          AND seq > ledger.seq_until(a.id, p.batch - 1) AND seq <= ledger.seq_until(a.id, p.batch)
        ORDER BY seq DESC LIMIT 1) e ON true
"""


async def with_effects(database: Database, reader: Reader, rows: Sequence[asyncpg.Record]) -> list[TransactionFacts]:
    """Completes rows of COLUMNS by balances and settlement. Raises DatabaseUnavailable."""
    postings = {str(row["id"]): parse_postings(str(row["postings"])) for row in rows}
    wanted = [
        _wanted(row, account, reader.partitions)
        for row in rows
        for account in dict.fromkeys(each for p in postings[str(row["id"])] for each in (p.source, p.destination))
    ]
    if not wanted:
        return []
    columns = [list(column) for column in zip(*wanted, strict=True)]
    effects = await database.rows(READ_EFFECTS, *columns, reader.admin, reader.principal)
    balances: dict[str, dict[str, int]] = {}
    unsettled: set[str] = set()
    reversed_by: dict[str, str] = {}
    for effect in effects:
        if effect["balance_after"] is not None:
            balances.setdefault(str(effect["operation"]), {})[str(effect["account"])] = int(effect["balance_after"])
        if not effect["landed"]:
            unsettled.add(str(effect["operation"]))
        if effect["reversed_by"] is not None:
            reversed_by[str(effect["operation"])] = str(effect["reversed_by"])
    return [
        TransactionFacts(
            str(row["id"]),
            str(row["kind"]),
            postings[str(row["id"])],
            balances.get(str(row["id"]), {}),
            str(row["id"]) not in unsettled,
            row["reference"],
            row["metadata"],
            int(row["recorded_at_us"]),
            reverses=row["subject"] if row["kind"] == RETURN_KIND else None,
            reversed_by=reversed_by.get(str(row["id"])),
        )
        for row in rows
    ]


def _wanted(row: asyncpg.Record, account: str, partitions: int) -> tuple[str, str, int, int, int, str | None]:
    """What READ_EFFECTS takes for one account. Only a credit to another partition may have been returned."""
    operation, source, partition = str(row["id"]), int(row["partition"]), partition_of(AccountId(account), partitions)
    may_be_returned = partition != source and row["kind"] != RETURN_KIND
    returned_by = return_id(operation, partition) if may_be_returned else None
    return operation, account, source, int(row["batch"]), partition, returned_by


def parse_postings(text: str) -> list[PostingFacts]:
    """The journal's JSON: [[source, destination, minor units as text, asset], …]."""
    postings = cast("list[list[str]]", json.loads(text))
    return [PostingFacts(source, destination, int(amount), asset) for source, destination, amount, asset in postings]
