"""Batches with everything that they wrote, in the order of their numbers."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from shared.journal.rows import HASHED_COLUMNS, LINE_ORDER, PLACE, copy_text
from tellerline.verification.batches import Batch, EndedHold, carried_to
from tellerline.verification.chain import BatchRow
from tellerline.verification.findings import Violated
from tellerline.verification.store.ledger import read_partitions
from tellerline.verification.store.snapshot import CURSOR_ROWS, Connection, copy
from tellerline.verification.transit import SettledRow, read_credits

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


async def _copy_lines(connection: Connection, table: str, partition: int, first: int, last: int) -> list[str]:
    """The hashed lines of one of COPIED, of these batches of a partition, in the order of the hash."""
    where, batch = PLACE[table]
    query = (
        f"SELECT {', '.join(HASHED_COLUMNS[table])} FROM ledger.{table} WHERE {where} = {partition:d} "  # noqa: S608 - names of shared.journal.rows
        f"AND {batch} BETWEEN {first:d} AND {last:d} ORDER BY {', '.join((batch, *LINE_ORDER[table]))}"
    )
    lines: list[str] = []
    await copy(connection, query, lines.extend)
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
            for line in await _copy_lines(connection, table, partition, window[0].batch, after):
                # A row between two batches of the window belongs to none: the chain's gap is found first.
                batch = batches.get(int(line.split("\t", place + 1)[place]))
                if batch is not None:
                    batch.lines_of.setdefault(table, []).append(line)
        for batch in read:
            for table, rows_of in merged.items():
                if rows := await rows_of.take((partition, batch.row.batch)):
                    _add_merged(batch, table, rows)
                    if table == "settlements":
                        batch.settled = [await _settled_row(connection, row) for row in rows]
            yield batch


def _add_merged(batch: Batch, table: str, rows: Sequence[asyncpg.Record]) -> None:
    if table == "entries":
        batch.lines_of[table] = str(rows[0][2]).split("\n")
        return
    end = 2 + len(HASHED_COLUMNS[table])
    batch.lines_of[table] = ["\t".join(map(copy_text, row[2:end])) for row in rows]
    if table == "hold_ends":
        batch.ended = [EndedHold(row["hold_id"], row["ended"], row["operation_id"], *row[end:]) for row in rows]


async def _settled_row(connection: Connection, row: asyncpg.Record) -> SettledRow:
    source, batch, destination = int(row["source"]), int(row["source_batch"]), int(row["destination"])
    if row["credits"] is None:
        key = f"{source}/{batch}/{destination}"
        raise Violated("settlements", key, "it settles a transit row", "a row of transit", "none")
    credits = read_credits(row["credits"])
    if credits is None:
        return SettledRow(source, batch, None, await read_carried(connection, source, batch, destination))
    return SettledRow(source, batch, credits)


async def read_carried(connection: Connection, source: int, batch: int, destination: int) -> Mapping[str, int]:
    """Asset → minor units of one transit row, by the operations of its batch: for a row that cannot be read."""
    lines = await _copy_lines(connection, "operations", source, batch, batch)
    return carried_to(destination, lines, await read_partitions(connection))
