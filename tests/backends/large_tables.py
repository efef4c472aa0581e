"""A ledger whose tables are large, so that a statement whose cost grows with a table shows.

The journal's tables have a million rows, the others 100,000. They are what honest batches would have left, as far as
keys, indexes and statistics can tell: row n, counted from 1, belongs to partition n % 4 and batch (n - 1) / 4 + 1, and
`id(n)` is its UUID. They are written without indexes, checks and write-ahead log, which takes a fifth of the time.
"""

import asyncio
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final

from shared.database.postgres import Connection, connect
from tests.backends.databases import Database, Databases

ROWS: Final = int(os.environ.get("LARGE_TABLE_ROWS", "1000000"))
PARTITIONS: Final = 4
FILL_MAX_S: Final = 900.0 * max(1, ROWS // 1_000_000)

# Table → its rows. `$rows` is their number, `$few` a tenth of it, `id(n)` the UUID of row n. The account `busy` has a
# tenth of all entries, account-1 … account-`$rows / 100` have 90 each, `suspense:USD:2` 1,000, the others none. The
# last 40 transit rows wait, 10 for each destination.
FILL: Final = {
    "ledger.accounts": """
        SELECT 'account-' || n, CASE WHEN n % 5000 = 0 THEN 'BTC' ELSE 'USD' END, 'owner-' || n % 10007,
               (n % 4)::smallint, (n - 1) / 4 + 1, CASE WHEN n % 1000 = 0 THEN 'frozen' ELSE 'open' END, NULL
          FROM generate_series(1, $rows) n
        UNION ALL SELECT 'busy', 'USD', 'owner-busy', 0, 1, 'open', NULL""",
    "ledger.operations": """
        SELECT id(n), (n % 4)::smallint, (n - 1) / 4 + 1, 0,
               CASE WHEN n % 10007 = 0 THEN 'deposit.v1' ELSE 'transfer.v1' END,
               CASE WHEN n % 10007 = 0 THEN 'tellerline:mixer' ELSE 'owner-' || n % 10007 END,
               decode('00112233445566778899aabbccddeeff', 'hex'), 'posted', NULL, NULL,
               '[["account-' || n / 10 % ($rows / 100) + 1 || '","busy","1","USD"]]', NULL,
               CASE WHEN n % 100 = 0 THEN 'reference-' || n END, NULL
          FROM generate_series(1, $rows) n""",
    "ledger.entries": """
        SELECT CASE WHEN n % 10 = 0 THEN 'busy' ELSE 'account-' || n / 10 % ($rows / 100) + 1 END,
               CASE WHEN n % 10 = 0 THEN n / 10 ELSE n / 10 / ($rows / 100) * 9 + n % 10 END,
               id(n), 'USD', 1, 0, 1, 0, 0, 'open', (n % 4)::smallint, (n - 1) / 4 + 1, 0
          FROM generate_series(1, $rows) n
        UNION ALL
        SELECT 'suspense:USD:2', n, NULL, 'USD', 1, 0, n, 0, 0, 'open', 2, n, 1 FROM generate_series(1, 1000) n""",
    "ledger.batches": """
        SELECT (n % 4)::smallint, (n - 1) / 4 + 1, 1, 1, 1,
               '2026-01-01'::timestamptz + n * interval '1 millisecond', '{}', ''::bytea, ''::bytea, sha256('')
          FROM generate_series(1, $rows) n""",
    "ledger.listed": """
        SELECT 'ledger', reference, CASE WHEN n = 1 THEN 'BTC' ELSE 'USD' END,
               CASE WHEN n % 10007 = 0 THEN 'deposit.v1' ELSE 'transfer.v1' END,
               '2026-01-01'::timestamptz + n * interval '1 millisecond', (n % 4)::smallint, (n - 1) / 4 + 1,
               ARRAY[0], ARRAY[id(n)]
          FROM generate_series(1, $rows) n CROSS JOIN LATERAL (
               SELECT '' AS reference UNION ALL SELECT 'reference-' || n WHERE n % 100 = 0) r
        UNION ALL
        SELECT list, '', asset, CASE WHEN n % 10007 = 0 THEN 'deposit.v1' ELSE 'transfer.v1' END,
               '2026-01-01'::timestamptz + n * interval '1 millisecond', (n % 4)::smallint, (n - 1) / 4 + 1,
               ARRAY[0], ARRAY[id(n)]
          FROM generate_series(10, $rows, 10) n
         CROSS JOIN (VALUES ('owner:owner-busy', 'USD'), ('account:busy', '')) AS lists (list, asset)
         WHERE list LIKE 'owner%' OR n > 10000
        UNION ALL
        SELECT 'owner:owner-assets', '', 'ASSET-' || n / 10 % 1000, 'transfer.v1',
               '2026-01-01'::timestamptz + n * interval '1 millisecond', (n % 4)::smallint, (n - 1) / 4 + 1,
               ARRAY[0], ARRAY[id(n)]
          FROM generate_series(10, $rows, 10) n""",
    "ledger.transit": """
        SELECT (n % 4)::smallint, (n - 1) / 4 + 1, ((n + 1) % 4)::smallint,
               '{"v":1,"replies":[],"credits":[' || repeat('0', 60) || ']}'
          FROM generate_series(1, $rows) n""",
    "ledger.settlements": """
        SELECT (n % 4)::smallint, (n - 1) / 4 + 1, ((n + 1) % 4)::smallint, (n - 1) / 4 + 1
          FROM generate_series(1, $rows - 40) n""",
    "ledger.holds": """
        SELECT id(n), 'account-' || n, 'USD', 1, NULL, id(n), NULL, (n % 4)::smallint, (n - 1) / 4 + 1
          FROM generate_series(1, $few) n""",
    "ledger.hold_ends": """
        SELECT id(n), 'captured', id(n), (n % 4)::smallint, (n - 1) / 4 + 1 FROM generate_series(1, $few) n
         WHERE n % 100 <> 0""",
    "access.keys": """
        SELECT lpad(to_hex(n), 16, '0'), sha256(n::text::bytea), 'owner-' || n % 10007, ARRAY['read', 'write'], NULL,
               '2026-01-01', CASE WHEN n % 3 = 0 THEN '2026-02-01'::timestamptz END, NULL
          FROM generate_series(1, $few) n""",
    "mixer.mixes": """
        SELECT id(n), id(n), decode('00112233445566778899aabbccddeeff', 'hex'), 'owner-' || n % 10007, md5(n::text),
               ARRAY['somewhere'], 0, 0, 0, '2026-01-01'::timestamptz + n * interval '1 second', 1, 0, 0, NULL
          FROM generate_series(1, $few) n""",
    "mixer.deposits": """
        SELECT id(n), id(n), 'network', '2026-01-01', 'sender', md5(n::text), 1, 1e22, 0, '2026-01-01', '2026-01-01',
               sha256('sender'), id(n), '2026-01-01'
          FROM generate_series(1, $few) n""",
    "mixer.sweeps": """
        SELECT id(n), id(n), 1e22, 1, CASE WHEN n % 10000 = 0 THEN 'planned' ELSE 'credited' END, NULL, NULL, 0, 1,
               NULL, '2026-01-01', '2026-01-01', 0, '-infinity'
          FROM generate_series(1, $few) n""",
    "mixer.sweep_intents": """
        SELECT id(n), id(n), 'sweep', 1, md5(n::text), 'house', 1e22, '2026-01-01', '2026-01-01',
               CASE WHEN n % 10000 <> 0 THEN 'seen' END, CASE WHEN n % 10000 <> 0 THEN 1 END
          FROM generate_series(1, $few) n""",
    "mixer.decisions": """
        SELECT id(n), id(n), 'retry', true, '2026-01-01' FROM generate_series(1, $few) n""",
    "payouts.credits": """
        SELECT id(n), id(n), 1, 0, CASE WHEN n % 10000 = 0 THEN 'new' ELSE 'planned' END, NULL, NULL, 0, 1,
               '2026-01-01', '2026-01-01', 0, '-infinity'
          FROM generate_series(1, $few) n""",
    "payouts.payouts": """
        SELECT id(n), id(n), id(n), 1, 'somewhere', 1, '2026-01-01',
               CASE WHEN n % 10000 = 0 THEN 'planned' ELSE 'paid' END, NULL, NULL, NULL, NULL, 0, 1, 1, NULL,
               '2026-01-01', 0, '-infinity', CASE WHEN n % 20000 = 0 THEN n END
          FROM generate_series(1, $few) n""",
    "payouts.decisions": """
        SELECT id(n), id(n), 'retry', true, '2026-01-01' FROM generate_series(1, $few) n""",
    "payouts.intents": """
        SELECT id(n), id(n), 'fund', 1, 'house', md5(n::text), 1e22, '2026-01-01', '2026-01-01',
               CASE WHEN n % 10000 = 0 THEN NULL WHEN n % 5000 = 0 THEN 'absent' ELSE 'seen' END,
               '2026-01-01', CASE WHEN n % 5000 <> 0 THEN 1 END
          FROM generate_series(1, $few) n""",
}

# What an honest ledger has few rows of.
SMALL: Final = """
UPDATE ledger.partitions SET owner = 'worker', epoch = 1, lease_expires_at = 'infinity';
INSERT INTO ledger.workers SELECT 'worker-' || n, clock_timestamp() FROM generate_series(1, 4) n;
INSERT INTO mixer.list_cursors VALUES ('network', 1, 1, '');
INSERT INTO payouts.cursors SELECT partition, 1 FROM ledger.partitions;
INSERT INTO mixer.journal_cursors SELECT partition, 1 FROM ledger.partitions;
"""

# What is slow while rows are written, as statements that take it away and that bring it back. Foreign keys stay away:
# they would be checked row by row, and none of our statements deletes.
SLOW: Final = """
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', c.conrelid::regclass, c.conname) AS away,
       CASE WHEN c.contype <> 'f' THEN
           format('ALTER TABLE %s ADD CONSTRAINT %I %s', c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid))
       END AS back, c.contype = 'f' AS is_first
  FROM pg_constraint c WHERE c.conrelid = ANY($1::text[]::regclass[]) AND c.contype IN ('p', 'u', 'f', 'c')
UNION ALL
SELECT format('DROP INDEX %s', i.indexrelid::regclass), pg_get_indexdef(i.indexrelid), false
  FROM pg_index i WHERE i.indrelid = ANY($1::text[]::regclass[])
   AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)
 ORDER BY is_first DESC
"""


@contextmanager
def large_ledger(databases: Databases) -> Generator[Database]:
    """A ledger of four partitions, filled; it is dropped afterwards."""
    with databases.clone(PARTITIONS) as database:
        asyncio.run(_fill(database.owner))
        yield database


async def _fill(owner: str) -> None:
    connection = await connect(owner, application="tests", command_timeout_s=FILL_MAX_S)
    try:
        await connection.execute("SET maintenance_work_mem = '256MB'; SET session_replication_role = 'replica'")
        slow = await connection.fetch(SLOW, list(FILL))
        await _run(connection, [row["away"] for row in slow])
        await _run(connection, [f"ALTER TABLE {table} SET UNLOGGED" for table in FILL])
        await _run(connection, [f"INSERT INTO {table} {_rows(select)}" for table, select in FILL.items()])
        await _run(connection, [row["back"] for row in slow if row["back"] is not None])
        await connection.execute(SMALL)
        await connection.execute("VACUUM (ANALYZE)")
    finally:
        await connection.close()


async def _run(connection: Connection, statements: Sequence[str]) -> None:
    for statement in statements:
        await connection.execute(statement)


def _rows(select: str) -> str:
    """The SELECT with its abbreviations written out."""
    written = select.replace("$rows", str(ROWS)).replace("$few", str(ROWS // 10))
    return written.replace("id(n)", "md5(n::text)::uuid")
