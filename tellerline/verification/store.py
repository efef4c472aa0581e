"""All SQL of `verify`, over one snapshot of the journal, which may grow meanwhile. Everything is read as a stream."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from shared.database import postgres
from shared.database.migrate import READ_PARTITIONS
from shared.journal.rows import HASHED_COLUMNS, LINE_ORDER, PLACE, copy_text
from tellerline.verification.batches import Batch, EndedHold
from tellerline.verification.chain import BatchRow
from tellerline.verification.findings import Violated
from tellerline.verification.transit import SettledRow

DATABASE_FAULTS: Final = (*postgres.CONNECTION_FAULTS, asyncpg.PostgresError)
# In effect no time-out: a large journal may take hours.
STATEMENT_MAX_S: Final = 30 * 86_400.0
CURSOR_ROWS: Final = 2_000
WINDOW_BATCHES_MAX: Final = 1_000
WINDOW_ROWS_MAX: Final = 20_000
# Tables with an index that finds a window of batches; the others are sorted once and read by a cursor.
COPIED: Final = ("operations", "transit")
MERGED: Final = ("accounts", "settlements", "holds", "hold_ends")
# What their rows refer to, read along with them: columns and join.
JOINED: Final[Mapping[str, tuple[str, str]]] = {
    "settlements": (
        ", x.credits",
        "LEFT JOIN ledger.transit x ON (x.source, x.batch, x.destination) = (t.source, t.source_batch, t.destination)",
    ),
    "hold_ends": (
        ", x.account_id, x.asset, x.amount::text, x.partition",
        "LEFT JOIN ledger.holds x ON x.id = t.hold_id",
    ),
}
# Partition and batch.
Place = tuple[int, int]
_BEFORE_ALL: Final[Place] = (-(2**15) - 1, 0)
_AFTER_ALL: Final[Place] = (2**15, 0)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Lines = Callable[[list[str]], None]
Connection = postgres.Connection

BEGIN: Final = """
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL work_mem = '64MB';
SET LOCAL search_path = pg_catalog;
SET LOCAL bytea_output = 'hex';
SET LOCAL extra_float_digits = 1;
"""


@contextlib.asynccontextmanager
async def snapshot(dsn: str) -> AsyncGenerator[Connection]:
    """A connection whose every statement sees the same instant. Raises what is in DATABASE_FAULTS."""
    connection = await postgres.connect(dsn, application="tellerline verify", command_timeout_s=STATEMENT_MAX_S)
    try:
        await connection.execute(BEGIN)
        yield connection
    finally:
        await connection.close()


READ_OWNERS: Final = "SELECT partition, epoch FROM ledger.partitions ORDER BY partition"
READ_FOREIGN_BATCH: Final = """
SELECT partition, batch FROM ledger.batches WHERE partition < 0 OR partition >= $1 ORDER BY partition, batch LIMIT 1
"""


async def read_partitions(connection: Connection) -> int:
    """The ledger's number of partitions."""
    return int(await connection.fetchval(READ_PARTITIONS))


async def read_epochs(connection: Connection) -> dict[int, int]:
    """Partition → epoch of its owner."""
    return {int(row["partition"]): int(row["epoch"]) for row in await connection.fetch(READ_OWNERS)}


async def read_foreign_batch(connection: Connection, partitions: int) -> str | None:
    """The key of a batch whose partition the ledger does not have; None if there is none."""
    row = await connection.fetchrow(READ_FOREIGN_BATCH, partitions)
    return None if row is None else f"{row['partition']}/{row['batch']}"


READ_ASSETS: Final = """
SELECT a.code, a.scale, a.name, a.operation_id::text, o.subject, o.metadata
  FROM ledger.assets a LEFT JOIN ledger.operations o
    ON o.id = a.operation_id AND o.kind = 'asset.create.v1' AND o.outcome = 'posted'
 ORDER BY a.code
"""


async def read_assets(connection: Connection) -> Sequence[asyncpg.Record]:
    """Every asset: code, scale, name, operation_id, and subject and metadata of the operation that made it."""
    return await connection.fetch(READ_ASSETS)


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
    await _copy(connection, ACCOUNT_LINES, take)


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


# Columns in the order of BatchRow. WITH TIES keeps two rows of the same number (the key dropped) in one window.
READ_BATCHES: Final = """
SELECT partition, batch, epoch, operations, entries, recorded_at, cursors, prev_hash, content_hash, hash
  FROM ledger.batches WHERE partition = $1 AND batch > $2 ORDER BY batch FETCH FIRST $3 ROWS WITH TIES
"""


async def _read_window(connection: Connection, partition: int, after: int) -> list[BatchRow]:
    """The next batches of a partition, at least one: together at most WINDOW_ROWS_MAX rows, by their own counts."""
    window: list[BatchRow] = []
    rows = 0
    for row in await connection.fetch(READ_BATCHES, partition, after, WINDOW_BATCHES_MAX):
        rows += int(row["operations"]) + int(row["entries"])
        if window and rows > WINDOW_ROWS_MAX and row["batch"] != window[-1].batch:
            break
        recorded_at_us = (row["recorded_at"].replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
        window.append(BatchRow(*row)._replace(recorded_at_us=recorded_at_us))
    return window


async def _copy_window(connection: Connection, table: str, window: Sequence[BatchRow]) -> list[str]:
    """The hashed lines of one of COPIED, of the batches of the window, in the order of the hash."""
    where, batch = PLACE[table]
    first, last = window[0], window[-1]
    query = (
        f"SELECT {', '.join(HASHED_COLUMNS[table])} FROM ledger.{table} WHERE {where} = {first.partition:d} "  # noqa: S608 - names of shared.journal.rows
        f"AND {batch} BETWEEN {first.batch:d} AND {last.batch:d} ORDER BY {', '.join((batch, *LINE_ORDER[table]))}"
    )
    lines: list[str] = []
    await _copy(connection, query, lines.extend)
    return lines


def _merged_query(table: str) -> str:
    """Selects partition, batch, the hashed columns as text, and what is JOINED, in the order of the hash."""
    # Columns are qualified: a bare name in ORDER BY would mean the output column of that name, which is text.
    where, batch = (f"t.{column}" for column in PLACE[table])
    order = (f't.{column} COLLATE "C"' if table == "accounts" else f"t.{column}" for column in LINE_ORDER[table])
    columns = ", ".join(f"t.{column}::text" for column in HASHED_COLUMNS[table])
    joined, join = JOINED.get(table, ("", ""))
    return (
        f"SELECT {where} AS place, {batch} AS number, {columns}{joined} FROM ledger.{table} t {join} "  # noqa: S608 - names of shared.journal.rows
        f"ORDER BY {', '.join((where, batch, *order))}"
    )


# One row for each batch. No field needs an escape: the checks before allow no account, asset or status that would.
READ_ENTRIES: Final = """
SELECT partition, batch, string_agg(
           concat_ws(E'\\t', account_id, seq, coalesce(operation_id::text, '\\N'), asset, delta, held_delta,
                     balance_after, held_after, limit_after, status_after, partition, batch, line),
           E'\\n' ORDER BY line)
  FROM ledger.entries GROUP BY partition, batch ORDER BY partition, batch
"""


class Merged:
    """A whole table sorted by (partition, batch), read by a cursor in step with the batches."""

    def __init__(self, connection: Connection, query: str, prefetch: int) -> None:
        self._rows = aiter(connection.cursor(query, prefetch=prefetch))
        self._next: asyncpg.Record | None = None
        self._place: Place = _BEFORE_ALL

    async def take(self, place: Place) -> list[asyncpg.Record]:
        """The rows of this batch; places must rise. Skips rows of batches that do not exist: see `read_orphan`."""
        found: list[asyncpg.Record] = []
        while self._place <= place:
            if self._next is not None and self._place == place:
                found.append(self._next)
            self._next = await anext(self._rows, None)
            self._place = _AFTER_ALL if self._next is None else (self._next[0], self._next[1])
        return found


# How many entries the largest batch says that it has.
READ_BATCH_ENTRIES_MAX: Final = "SELECT coalesce(max(entries), 0) FROM ledger.batches"


async def open_merged(connection: Connection) -> dict[str, Merged]:
    """Every table that is read in step with the batches of all partitions, by name."""
    entries_max = int(await connection.fetchval(READ_BATCH_ENTRIES_MAX))
    merged = {table: Merged(connection, _merged_query(table), CURSOR_ROWS) for table in MERGED}
    batches = max(1, min(CURSOR_ROWS, WINDOW_ROWS_MAX // max(1, entries_max)))
    return {**merged, "entries": Merged(connection, READ_ENTRIES, batches)}


async def read_batches(connection: Connection, merged: Mapping[str, Merged], partition: int) -> AsyncGenerator[Batch]:
    """The batches of a partition with all their rows, in order, a window at a time. Partitions come in order too."""
    after = 0
    while window := await _read_window(connection, partition, after):
        after = window[-1].batch
        read = [Batch(row) for row in window]
        batches = {batch.row.batch: batch for batch in reversed(read)}
        for table in COPIED:
            place = HASHED_COLUMNS[table].index("batch")
            for line in await _copy_window(connection, table, window):
                # A row between two batches of the window belongs to none: the chain's gap is found first.
                batch = batches.get(int(line.split("\t", place + 1)[place]))
                if batch is not None:
                    batch.lines_of.setdefault(table, []).append(line)
        for batch in read:
            for table, rows_of in merged.items():
                if rows := await rows_of.take((partition, batch.row.batch)):
                    _add_merged(batch, table, rows)
            yield batch


def _add_merged(batch: Batch, table: str, rows: Sequence[asyncpg.Record]) -> None:
    if table == "entries":
        batch.lines_of[table] = str(rows[0][2]).split("\n")
        return
    end = 2 + len(HASHED_COLUMNS[table])
    batch.lines_of[table] = ["\t".join(map(copy_text, row[2:end])) for row in rows]
    if table == "settlements":
        batch.settled = [SettledRow(int(row["source"]), int(row["source_batch"]), row["credits"]) for row in rows]
    elif table == "hold_ends":
        batch.ended = [EndedHold(row["hold_id"], row["ended"], row["operation_id"], *row[end:]) for row in rows]


READ_WAITING: Final = """
SELECT t.source, t.batch, t.destination, t.credits FROM ledger.transit t
 WHERE NOT EXISTS (SELECT FROM ledger.settlements s
                    WHERE s.source = t.source AND s.source_batch = t.batch AND s.destination = t.destination)
 ORDER BY t.destination, t.source, t.batch
"""


def read_waiting(connection: Connection) -> AsyncIterable[asyncpg.Record]:
    """Transit rows that no settlement names: source, batch, destination, credits."""
    return connection.cursor(READ_WAITING, prefetch=CURSOR_ROWS)


async def read_orphan(connection: Connection, table: str) -> str | None:
    """The key and place of a row whose batch does not exist; None if there is none."""
    where, batch = PLACE[table]
    key = LINE_ORDER[table] if table not in {"operations", "entries"} else HASHED_COLUMNS[table][:2]
    columns = ", ".join(f"t.{column}::text" for column in key)
    row = await connection.fetchrow(
        f"SELECT t.{where}, t.{batch}, {columns} FROM ledger.{table} t WHERE NOT EXISTS ("  # noqa: S608 - as above
        f"SELECT FROM ledger.batches b WHERE b.partition = t.{where} AND b.batch = t.{batch}) LIMIT 1"
    )
    return None if row is None else f"{'/'.join(str(value) for value in tuple(row)[2:])} in batch {row[0]}/{row[1]}"


async def _copy(connection: Connection, query: str, take: Lines) -> None:
    """Hands over the lines of a COPY as they come, without their newline."""
    rest = b""

    async def read(chunk: bytes) -> None:
        nonlocal rest
        whole, newline, rest = (rest + chunk).rpartition(b"\n")
        if newline:
            take(whole.decode().split("\n"))

    try:
        await connection.copy_from_query(query, output=read)
    except Violated:
        # asyncpg waits for ever for the end of a COPY whose reader has failed. Nothing more is asked after a violation.
        connection.terminate()
        raise
