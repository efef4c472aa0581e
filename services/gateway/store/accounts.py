"""Accounts: as they are, as an operation left them, as they were at an instant; and their entries."""

from collections.abc import Sequence
from datetime import datetime

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


# Only the account's entries in the operation's batch are searched. The metadata is that of the last operation up to it.
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
        WHERE account_id = a.id AND operation_id = o.id
          AND seq > ledger.seq_until(a.id, o.batch - 1) AND seq <= ledger.seq_until(a.id, o.batch)
        ORDER BY seq LIMIT 1) e ON true
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


# Keyset pagination by id: each page costs the same. `owner` restricts the list to what a caller may see.
LIST_ACCOUNTS = """
SELECT id, asset, owner, partition, status, metadata, ledger.us(created_at) AS created_at_us, seq AS version,
       balance, held, overdraft_limit
  FROM ledger.account_heads
 WHERE id > $1 AND ($2::text IS NULL OR owner = $2) AND ($3::text IS NULL OR asset = $3)
   AND ($4::text IS NULL OR status = $4) AND ($5::text IS NULL OR starts_with(id, $5))
 ORDER BY id LIMIT $6
"""


async def list_accounts(database: Database, wanted: AccountFilter, limit: int) -> list[AccountState]:
    """Accounts by id. Raises DatabaseUnavailable."""
    rows = await database.rows(
        LIST_ACCOUNTS, wanted.after, wanted.owner, wanted.asset, wanted.status, wanted.id_prefix, limit
    )
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
    """Selects entries of an account: seq < `seq_max`, recorded between two instants (exclusive), kind `transfer.v1`."""

    seq_max: int
    after: datetime | None = None
    before: datetime | None = None
    kind: str | None = None


LIST_ENTRIES = """
SELECT e.seq, e.operation_id::text AS operation_id, o.kind, e.delta, e.held_delta, e.balance_after, e.held_after,
       o.postings, ledger.us(b.recorded_at) AS recorded_at_us
  FROM ledger.entries e
  JOIN ledger.batches b ON b.partition = e.partition AND b.batch = e.batch
  LEFT JOIN ledger.operations o ON o.id = e.operation_id
 WHERE e.account_id = $1 AND e.seq < $3
   AND e.seq > CASE WHEN $4::timestamptz IS NULL THEN 0
                    ELSE ledger.seq_until($1, ledger.batch_until($2::integer, $4)) END
   AND e.seq <= CASE WHEN $5::timestamptz IS NULL THEN $3
                     ELSE ledger.seq_until($1, ledger.batch_until($2::integer, $5 - interval '1 microsecond')) END
   AND ($6::text IS NULL OR o.kind = $6)
 ORDER BY e.seq DESC LIMIT $7
"""


async def list_entries(
    database: Database, account: AccountState, wanted: EntryFilter, *, limit: int
) -> Sequence[EntryFacts]:
    """The account's entries, newest first. Raises DatabaseUnavailable."""
    rows = await database.rows(
        LIST_ENTRIES, account.id, account.partition, wanted.seq_max, wanted.after, wanted.before, wanted.kind, limit
    )
    return [EntryFacts(**fields(row)) for row in rows]
