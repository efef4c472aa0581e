"""Accounts with their entries, in the order of their keys."""

from typing import Final

import asyncpg

from tellerline.verification.store.snapshot import Connection, Lines, copy

ACCOUNT_LINES: Final = """
    SELECT id COLLATE "C", 0 AS role, 0::bigint AS seq, asset, partition, batch, 0 AS line, 0::numeric AS delta,
           0::numeric AS held_delta, 0::numeric AS balance_after, 0::numeric AS held_after, 0::numeric AS limit_after,
           status
      FROM ledger.accounts
     UNION ALL
    SELECT account_id COLLATE "C", 1, seq, asset, partition, batch, line, delta, held_delta, balance_after, held_after,
           limit_after, status_after
      FROM ledger.entries
     UNION ALL
    SELECT h.account_id COLLATE "C", 2, 0, '', 0, 0, 0, 0, 0, 0, sum(h.amount), 0, ''
      FROM ledger.holds h WHERE NOT EXISTS (SELECT FROM ledger.hold_ends x WHERE x.hold_id = h.id) GROUP BY h.account_id
     ORDER BY 1, 2, 3
"""


async def read_accounts(connection: Connection, take: Lines) -> None:
    """Every account, then its entries, then the sum of its open holds: lines of tellerline.verification.accounts."""
    await copy(connection, ACCOUNT_LINES, take)


READ_CHANGED_ACCOUNT: Final = """
SELECT a.id, last.metadata AS expected, a.metadata AS found
  FROM ledger.accounts a LEFT JOIN (
      SELECT DISTINCT ON (subject) subject, metadata FROM ledger.operations
       WHERE kind IN ('account.create.v1', 'account.update.v1') AND outcome = 'posted' AND metadata IS NOT NULL
       ORDER BY subject, batch DESC, line DESC) last ON last.subject = a.id
 WHERE a.metadata IS DISTINCT FROM last.metadata ORDER BY a.id LIMIT 1
"""


async def read_changed_account(connection: Connection) -> asyncpg.Record | None:
    """An account whose metadata is not what its operations say: id, expected, found. None if there is none."""
    return await connection.fetchrow(READ_CHANGED_ACCOUNT)
