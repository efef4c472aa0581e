"""Accounts with their entries, in the order of their keys."""

from typing import Final

import asyncpg

from tellerline.verification.store.snapshot import Connection, Lines, copy

# A nested loop over the keys of both tables, without a sort: one account may have half of all entries.
ACCOUNT_LINES: Final = """
SELECT a.id, x.*
  FROM (SELECT id, asset, partition, batch, status FROM ledger.accounts ORDER BY id) AS a
 CROSS JOIN LATERAL (
    SELECT 0 AS role, 0::bigint AS seq, a.asset, a.partition, a.batch, 0 AS line, 0::numeric AS delta,
           0::numeric AS held_delta, 0::numeric AS balance_after, 0::numeric AS held_after, 0::numeric AS limit_after,
           a.status
     UNION ALL
    (SELECT 1, seq, asset, partition, batch, line, delta, held_delta, balance_after, held_after, limit_after,
            status_after
       FROM ledger.entries WHERE account_id = a.id ORDER BY seq)
     UNION ALL
    SELECT 2, 0, '', 0, 0, 0, 0, 0, 0, sum(h.amount), 0, ''
      FROM ledger.holds h
     WHERE h.account_id = a.id AND NOT EXISTS (SELECT FROM ledger.hold_ends e WHERE e.hold_id = h.id)
    HAVING count(*) > 0) AS x
"""


async def read_accounts(connection: Connection, take: Lines) -> None:
    """Every account, then its entries, then the sum of its open holds: lines of tellerline.verification.accounts."""
    await copy(connection, ACCOUNT_LINES, take)


READ_CHANGED_ACCOUNT: Final = """
SELECT a.id, last.metadata AS expected, a.metadata AS found
  FROM ledger.accounts a LEFT JOIN LATERAL (
      SELECT metadata FROM ledger.operations
       WHERE subject = a.id AND kind IN ('account.create.v1', 'account.update.v1') AND outcome = 'posted'
         AND metadata IS NOT NULL
       ORDER BY partition DESC, batch DESC, line DESC LIMIT 1) last ON true
 WHERE a.metadata IS DISTINCT FROM last.metadata ORDER BY a.id LIMIT 1
"""


async def read_changed_account(connection: Connection) -> asyncpg.Record | None:
    """An account whose metadata is not what its operations say: id, expected, found. None if there is none."""
    return await connection.fetchrow(READ_CHANGED_ACCOUNT)
