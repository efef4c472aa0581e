"""Batches with everything that they wrote, in the order of their numbers, one window after the other."""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from shared.domain.ids import PARTITIONED_PREFIXES
from shared.journal.rows import HASHED_COLUMNS, LINE_ORDER, PLACE, copy_text
from tellerline.verification.batches import Batch, EndedHold, carried_to
from tellerline.verification.chain import BatchRow
from tellerline.verification.findings import Violated
from tellerline.verification.store.ledger import read_partitions
from tellerline.verification.store.snapshot import Connection, copy
from tellerline.verification.transit import SettledRow, read_credits

# A window holds at most so many batches, and so many operations and entries unless one batch has more.
WINDOW_BATCHES_MAX: Final = 1_000
WINDOW_ROWS_MAX: Final = 20_000
# Read as lines; `settlements` and `hold_ends` are read as rows, with the rows that they refer to.
COPIED: Final = ("accounts", "operations", "entries", "transit", "holds")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# Columns in the order of BatchRow. WITH TIES keeps two rows of the same number (the key dropped) in one window.
READ_BATCHES: Final = """
SELECT partition, batch, epoch, operations, entries, recorded_at, cursors, prev_hash, content_hash, hash
  FROM ledger.batches WHERE partition = $1 AND batch > $2 ORDER BY batch FETCH FIRST $3 ROWS WITH TIES
"""


async def read_batches(connection: Connection, partition: int, take: Callable[[Batch], None]) -> None:
    """Hands over the batches of a partition with all their rows, in order. Raises Violated, as `take` may.

    The next window is read while this one is checked.
    """
    window = await _read_window(connection, partition, 0)
    while window:
        # Both end before a fault is raised, so that nobody leaves the connection in the middle of an answer.
        checked, ahead = await asyncio.gather(
            _hand_over(window, take),
            _read_window(connection, partition, window[-1].row.batch),
            return_exceptions=True,
        )
        if checked is not None:
            raise checked
        if isinstance(ahead, BaseException):
            raise ahead
        window = ahead


async def _hand_over(window: Sequence[Batch], take: Callable[[Batch], None]) -> None:
    for batch in window:
        take(batch)
        await asyncio.sleep(0)  # so that what the database sends is taken in meanwhile


async def _read_window(connection: Connection, partition: int, after: int) -> list[Batch]:
    """The next batches of a partition with all their rows; none after the last. Raises Violated."""
    window = [Batch(row) for row in await _read_rows(connection, partition, after)]
    if window:
        first, last = window[0].row.batch, window[-1].row.batch
        for table in COPIED:
            _hand_out(window, table, await _copy_lines(connection, table, partition, first, last))
        await _read_lists(connection, window)
        await _read_settlements(connection, window)
        await _read_hold_ends(connection, window)
    return window


async def _read_rows(connection: Connection, partition: int, after: int) -> list[BatchRow]:
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
    order = ('id COLLATE "C"',) if table == "accounts" else LINE_ORDER[table]
    query = (
        f"SELECT {', '.join(HASHED_COLUMNS[table])} FROM ledger.{table} WHERE {where} = {partition:d} "  # noqa: S608 - names of shared.journal.rows
        f"AND {batch} BETWEEN {first:d} AND {last:d} ORDER BY {', '.join((batch, *order))}"
    )
    lines: list[str] = []
    await copy(connection, query, lines.extend)
    return lines


def _hand_out(window: Sequence[Batch], table: str, lines: list[str]) -> None:
    """Gives each batch its lines, which are in the order of the batches.

    A row between two batches of the window belongs to none: the chain's gap is found first. If a number stands there
    twice, the first batch gets the rows.
    """
    column = HASHED_COLUMNS[table].index(PLACE[table][1])

    def number(line: str) -> int:
        return int(line.split("\t", column + 1)[column])

    end = 0
    for batch in window:
        wanted = batch.row.batch
        begin = end
        if begin < len(lines) and number(lines[begin]) < wanted:
            begin = bisect_left(lines, wanted, lo=begin, key=number)
        # The batch says how many rows it has. If that is right, there is nothing to search.
        end = begin + {"entries": batch.row.entries, "operations": batch.row.operations}.get(table, 0)
        is_full = begin <= end <= len(lines) and (end == begin or number(lines[end - 1]) == wanted)
        if not is_full or (end < len(lines) and number(lines[end]) <= wanted):
            end = bisect_right(lines, wanted, lo=begin, key=number)
        if begin < end:
            batch.lines_of[table] = lines[begin:end]


READ_ACCOUNT_OWNERS: Final = "SELECT id, owner FROM ledger.accounts WHERE id = ANY($1::text[])"


async def _read_lists(connection: Connection, window: Sequence[Batch]) -> None:
    """What the batches list, and who owns the accounts in their entries."""
    first, last = window[0].row, window[-1].row
    batches = {str(batch.row.batch): batch for batch in reversed(window)}

    def take(lines: list[str]) -> None:
        for line in lines:
            number, row = line.split("\t", 1)
            if number in batches:
                batches[number].listed.append(row)

    # After the number of the batch, the columns that tellerline.verification.lists reads.
    query = (
        "SELECT batch, list, reference, asset, kind, (extract(epoch FROM recorded_at) * 1000000)::bigint, lines, "  # noqa: S608 - numbers
        f"operations FROM ledger.listed WHERE partition = {first.partition:d} "
        f"AND batch BETWEEN {first.batch:d} AND {last.batch:d} ORDER BY batch"
    )
    await copy(connection, query, take)
    accounts = {line.split("\t", 1)[0] for batch in window for line in batch.lines("entries")}
    wanted = [account for account in accounts if not account.startswith(PARTITIONED_PREFIXES)]
    owners = {row["id"]: copy_text(row["owner"]) for row in await connection.fetch(READ_ACCOUNT_OWNERS, wanted)}
    for batch in window:
        batch.owners = owners


READ_SETTLEMENTS: Final = """
SELECT t.source, t.source_batch, t.destination, t.batch, x.credits
  FROM ledger.settlements t LEFT JOIN LATERAL (
       SELECT credits FROM ledger.transit
        WHERE source = t.source AND batch = t.source_batch AND destination = t.destination OFFSET 0) AS x ON true
 WHERE t.destination = $1 AND t.batch BETWEEN $2 AND $3 ORDER BY t.batch, t.source, t.source_batch
"""


async def _read_settlements(connection: Connection, window: Sequence[Batch]) -> None:
    first, last = window[0].row, window[-1].row
    batches = {batch.row.batch: batch for batch in reversed(window)}
    for row in await connection.fetch(READ_SETTLEMENTS, first.partition, first.batch, last.batch):
        *places, number, text = row
        if (batch := batches.get(number)) is None:
            continue
        batch.lines_of.setdefault("settlements", []).append("\t".join(map(str, (*places, number))))
        source, source_batch, destination = places
        if text is None:
            key = f"{source}/{source_batch}/{destination}"
            raise Violated("settlements", key, "it settles a transit row", "a row of transit", "none")
        credits = read_credits(text)
        carried = None if credits is not None else await read_carried(connection, source, source_batch, destination)
        batch.settled.append(SettledRow(source, source_batch, credits, carried or {}))


READ_HOLD_ENDS: Final = """
SELECT t.hold_id::text, t.ended, t.operation_id::text, t.partition::text, t.batch, x.account_id, x.asset, x.amount,
       x.partition
  FROM ledger.hold_ends t LEFT JOIN LATERAL (
       SELECT account_id, asset, amount::text, partition FROM ledger.holds WHERE id = t.hold_id OFFSET 0) AS x ON true
 WHERE t.partition = $1 AND t.batch BETWEEN $2 AND $3 ORDER BY t.batch, t.hold_id
"""


async def _read_hold_ends(connection: Connection, window: Sequence[Batch]) -> None:
    first, last = window[0].row, window[-1].row
    batches = {batch.row.batch: batch for batch in reversed(window)}
    for row in await connection.fetch(READ_HOLD_ENDS, first.partition, first.batch, last.batch):
        hold, ended, operation, partition, number, *held = row
        if (batch := batches.get(number)) is not None:
            line = "\t".join(map(copy_text, (hold, ended, operation, partition, str(number))))
            batch.lines_of.setdefault("hold_ends", []).append(line)
            batch.ended.append(EndedHold(hold, ended, operation, *held))


async def read_carried(connection: Connection, source: int, batch: int, destination: int) -> Mapping[str, int]:
    """Asset → minor units of one transit row, by the operations of its batch: for a row that cannot be read."""
    lines = await _copy_lines(connection, "operations", source, batch, batch)
    return carried_to(destination, lines, await read_partitions(connection))
