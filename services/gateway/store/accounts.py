"""Accounts: as they are, as an operation left them, as they were at an instant."""

import sys
from datetime import datetime
from typing import Final

from services.gateway.store.database import Database, fields
from shared.domain.values import value


@value
class AccountState:
    """Amounts in minor units; `version` is the sequence number of the last entry; metadata is JSON text."""

    id: str
    asset: str
    owner: str
    partition: int
    status: str
    metadata: str | None
    created_at_us: int
    version: int
    balance: int
    held: int
    overdraft_limit: int


READ_ACCOUNT = """
SELECT id, asset, owner, partition, status, metadata, ledger.us(created_at) AS created_at_us, seq AS version,
       balance, held, overdraft_limit
  FROM ledger.account_heads WHERE id = $1
"""


async def read_account(database: Database, account: str) -> AccountState | None:
    """The account as it is. Raises DatabaseUnavailable."""
    row = await database.row(READ_ACCOUNT, account)
    return None if row is None else AccountState(**fields(row))


# The metadata is that of the last operation up to it.
READ_ACCOUNT_AFTER = """
SELECT a.id, a.asset, a.owner, a.partition, coalesce(e.status_after, 'open') AS status, m.metadata,
       ledger.us(c.recorded_at) AS created_at_us, coalesce(e.seq, 0) AS version,
       coalesce(e.balance_after, 0) AS balance, coalesce(e.held_after, 0) AS held,
       coalesce(e.limit_after, 0) AS overdraft_limit
  FROM ledger.operations o
  JOIN ledger.accounts a ON a.id = o.subject
  JOIN ledger.batches c ON c.partition = a.partition AND c.batch = a.batch
  LEFT JOIN LATERAL (
       SELECT * FROM ledger.entries
        WHERE partition = o.partition AND batch = o.batch AND operation_id = o.id AND account_id || '' = a.id
        LIMIT 1) e ON true
  LEFT JOIN LATERAL (
       SELECT said.metadata FROM ledger.operations said
        WHERE said.subject = a.id AND said.partition = o.partition AND (said.batch, said.line) <= (o.batch, o.line)
          AND said.outcome = 'posted' AND said.metadata IS NOT NULL
          AND said.kind IN ('account.create.v1', 'account.update.v1')
        ORDER BY said.batch DESC, said.line DESC LIMIT 1) m ON true
 WHERE o.id = $1::text::uuid
"""


async def read_account_after(database: Database, operation: str) -> AccountState | None:
    """The account as this operation on it left it. Raises DatabaseUnavailable."""
    row = await database.row(READ_ACCOUNT_AFTER, operation)
    return None if row is None else AccountState(**fields(row))


@value
class AccountFilter:
    """Selects accounts whose id is greater than `after`. None filters nothing."""

    after: str
    owner: str | None = None
    asset: str | None = None
    status: str | None = None
    id_prefix: str | None = None


STATUSES: Final = ("open", "frozen", "closed")


def _list_of(which: str) -> str:
    """A page of the accounts with ids greater than $1, from $2 on and less than $3, by id: $4 statuses, $5 limit.

    Each status is a stream of its own, so that every page is a walk along one of the indexes that end with the id.
    """
    return f"""
SELECT h.id, h.asset, h.owner, h.partition, h.status, h.metadata, ledger.us(h.created_at) AS created_at_us,
       h.seq AS version, h.balance, h.held, h.overdraft_limit
  FROM (SELECT a.id FROM unnest($4::text[]) AS s (status) CROSS JOIN LATERAL (
               SELECT id FROM ledger.accounts
                WHERE status = s.status AND {which}
                  AND id COLLATE "C" > $1 AND id COLLATE "C" >= $2 AND id COLLATE "C" < $3
                ORDER BY id COLLATE "C" LIMIT $5) a
         ORDER BY a.id COLLATE "C" LIMIT $5) page
  JOIN ledger.account_heads h ON h.id = page.id
 ORDER BY h.id COLLATE "C"
"""  # noqa: S608 - constants of this file


LIST_ACCOUNTS = _list_of("true")
LIST_ACCOUNTS_OF_OWNER = _list_of("owner = $6")
LIST_ACCOUNTS_OF_ASSET = _list_of("asset = $6")
LIST_ACCOUNTS_OF_OWNER_IN_ASSET = _list_of("owner = $6 AND asset = $7")


async def list_accounts(database: Database, wanted: AccountFilter, limit: int) -> list[AccountState]:
    """Accounts by id. Raises DatabaseUnavailable."""
    prefix = wanted.id_prefix or ""
    statuses = STATUSES if wanted.status is None else (wanted.status,)
    bounds = wanted.after, prefix, prefix + chr(sys.maxunicode), statuses, limit
    if wanted.owner is None and wanted.asset is None:
        rows = await database.rows(LIST_ACCOUNTS, *bounds)
    elif wanted.asset is None:
        rows = await database.rows(LIST_ACCOUNTS_OF_OWNER, *bounds, wanted.owner)
    elif wanted.owner is None:
        rows = await database.rows(LIST_ACCOUNTS_OF_ASSET, *bounds, wanted.asset)
    else:
        rows = await database.rows(LIST_ACCOUNTS_OF_OWNER_IN_ASSET, *bounds, wanted.owner, wanted.asset)
    return [AccountState(**fields(row)) for row in rows]


@value
class BalanceThen:
    """Amounts in minor units after entry `version`; all 0 before the first."""

    version: int
    balance: int
    held: int
    overdraft_limit: int


READ_BALANCE_AT = """
SELECT seq AS version, balance_after AS balance, held_after AS held, limit_after AS overdraft_limit
  FROM ledger.entries
 WHERE account_id = $1 AND seq = ledger.seq_until($1, ledger.batch_until($2::integer, $3))
"""


async def read_balance_at(database: Database, account: AccountState, instant: datetime) -> BalanceThen:
    """What the account held after everything recorded at `instant` or before. Raises DatabaseUnavailable."""
    row = await database.row(READ_BALANCE_AT, account.id, account.partition, instant)
    return BalanceThen(0, 0, 0, 0) if row is None else BalanceThen(**fields(row))
