"""Transactions: operations that moved money, with what they did to the accounts that the caller may read."""

import json
from collections.abc import Mapping, Sequence
from typing import Final, cast

import asyncpg

from services.gateway.store.database import Database
from shared.domain.values import value
from shared.journal.transit import RETURN_KIND


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
    """On whose behalf the journal is read. An admin sees everything."""

    principal: str
    admin: bool


COLUMNS: Final = """
o.id::text AS id, o.kind, o.principal, o.postings, o.reference, o.metadata, o.subject,
       ledger.us(b.recorded_at) AS recorded_at_us, effects.*"""

# What operation `o` did to its accounts: of each whether the operation's entry is there (in the operation's own batch,
# or in the one that took the credit in), and the balance after it where the reader may see it. $1: the reader is an
# admin; $2: the reader's principal. `account_id || ''` keeps the planner from the index by account, which would lead
# through the account's whole history.
EFFECTS: Final = """
  JOIN ledger.batches b ON b.partition = o.partition AND b.batch = o.batch
 CROSS JOIN LATERAL (
       SELECT array_agg(a.id) AS accounts, array_agg(e.balance_after::text) AS balances,
              bool_and(p.batch IS NOT NULL) AS is_settled, bool_or(a.owner = $2) AS is_owned,
              max(r.id) AS reversed_by
         FROM json_array_elements(o.postings::json) AS posting
        CROSS JOIN LATERAL (VALUES (posting->>0), (posting->>1)) AS sides (account)
         JOIN ledger.accounts a ON a.id = sides.account
         LEFT JOIN LATERAL (
              SELECT batch FROM ledger.settlements
               WHERE a.partition <> o.partition
                 AND source = o.partition AND source_batch = o.batch AND destination = a.partition OFFSET 0) s ON true
        CROSS JOIN LATERAL (
              SELECT CASE WHEN a.partition = o.partition THEN o.batch ELSE s.batch END AS batch) p
         LEFT JOIN LATERAL (
              SELECT balance_after FROM ledger.entries
               WHERE ($1 OR a.owner = $2) AND partition = a.partition AND batch = p.batch AND operation_id = o.id
                 AND account_id || '' = a.id LIMIT 1) e ON true
         LEFT JOIN LATERAL (
              SELECT returned.id::text AS id FROM ledger.operations returned
               WHERE a.partition <> o.partition AND o.kind <> 'return.v1'
                 AND returned.subject = o.id::text AND returned.kind = 'return.v1' LIMIT 1) r ON true) effects"""

READ_TRANSACTION = f"""
SELECT {COLUMNS} FROM ledger.operations o {EFFECTS}
 WHERE o.id = $3::text::uuid AND o.outcome = 'posted' AND o.postings IS NOT NULL
"""  # noqa: S608 - constants of this file


async def read_transaction(database: Database, reader: Reader, transaction: str) -> TransactionFacts | None:
    """The transaction, if the reader sent it or owns one of its accounts. Raises DatabaseUnavailable."""
    row = await database.row(READ_TRANSACTION, reader.admin, reader.principal, transaction)
    if row is None or not (reader.admin or row["principal"] == reader.principal or row["is_owned"]):
        return None
    return facts_of(row)


def facts_of(row: asyncpg.Record) -> TransactionFacts:
    """The transaction in a row of COLUMNS."""
    balances = zip(row["accounts"], row["balances"], strict=True)
    return TransactionFacts(
        row["id"],
        row["kind"],
        parse_postings(row["postings"]),
        {account: int(balance) for account, balance in balances if balance is not None},
        settled=row["is_settled"],
        reference=row["reference"],
        metadata=row["metadata"],
        recorded_at_us=row["recorded_at_us"],
        reverses=row["subject"] if row["kind"] == RETURN_KIND else None,
        reversed_by=row["reversed_by"],
    )


def parse_postings(text: str) -> list[PostingFacts]:
    """The journal's JSON: [[source, destination, minor units as text, asset], …]."""
    postings = cast("list[list[str]]", json.loads(text))
    return [PostingFacts(source, destination, int(amount), asset) for source, destination, amount, asset in postings]
