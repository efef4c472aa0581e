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
    """A posted transaction. `balances`: account → minor units after it; `metadata`: JSON text.

    `reverses`: of a return, the id of the transaction whose credit it returns; `reversed_by`: the other way round.
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


@value
class Reader:
    """On whose behalf the journal is read. An admin sees everything. `partitions`: how many the ledger has."""

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

OWNS_ONE = "SELECT 1 FROM ledger.accounts WHERE id = ANY($1::text[]) AND owner = $2 LIMIT 1"


async def read_transaction(database: Database, reader: Reader, transaction: str) -> TransactionFacts | None:
    """The transaction, if the reader sent it or owns one of its accounts. Raises DatabaseUnavailable."""
    row = await database.row(READ_TRANSACTION, transaction)
    if row is None:
        return None
    read = (await with_effects(database, reader, [row]))[0]
    if reader.admin or row["principal"] == reader.principal or read.balances:
        return read
    accounts = {each for posting in read.postings for each in (posting.source, posting.destination)}
    owned = await database.row(OWNS_ONE, sorted(accounts), reader.principal)
    return None if owned is None else read


# For each operation and account: has the credit landed, with which balance, and was it returned. An entry has no index
# by operation; it is searched for among the account's entries in the batch that has it: the operation's own batch, or
# the one that settled the transit row of the credit.
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
    """One transaction for each row of COLUMNS, with balances and settlement. Raises DatabaseUnavailable."""
    postings = {row["id"]: parse_postings(row["postings"]) for row in rows}
    wanted = [
        _wanted(row, account, reader.partitions)
        for row in rows
        for account in dict.fromkeys(each for p in postings[row["id"]] for each in (p.source, p.destination))
    ]
    if not wanted:
        return []
    columns = [list(column) for column in zip(*wanted, strict=True)]
    effects: dict[str, list[asyncpg.Record]] = {row["id"]: [] for row in rows}
    for effect in await database.rows(READ_EFFECTS, *columns, reader.admin, reader.principal):
        effects[effect["operation"]].append(effect)
    return [_facts(row, postings[row["id"]], effects[row["id"]]) for row in rows]


def _facts(
    row: asyncpg.Record, postings: Sequence[PostingFacts], effects: Sequence[asyncpg.Record]
) -> TransactionFacts:
    return TransactionFacts(
        row["id"],
        row["kind"],
        postings,
        {each["account"]: int(each["balance_after"]) for each in effects if each["balance_after"] is not None},
        settled=all(each["landed"] for each in effects),
        reference=row["reference"],
        metadata=row["metadata"],
        recorded_at_us=row["recorded_at_us"],
        reverses=row["subject"] if row["kind"] == RETURN_KIND else None,
        reversed_by=next((each["reversed_by"] for each in effects if each["reversed_by"] is not None), None),
    )


def _wanted(row: asyncpg.Record, account: str, partitions: int) -> tuple[str, str, int, int, int, str | None]:
    """The parameters of READ_EFFECTS for one account. Only a credit to another partition may have been returned."""
    operation, source, partition = row["id"], row["partition"], partition_of(AccountId(account), partitions)
    may_be_returned = partition != source and row["kind"] != RETURN_KIND
    returned_by = return_id(operation, partition) if may_be_returned else None
    return operation, account, source, row["batch"], partition, returned_by


def parse_postings(text: str) -> list[PostingFacts]:
    """The journal's JSON: [[source, destination, minor units as text, asset], …]."""
    postings = cast("list[list[str]]", json.loads(text))
    return [PostingFacts(source, destination, int(amount), asset) for source, destination, amount, asset in postings]
