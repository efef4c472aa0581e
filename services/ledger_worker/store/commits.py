"""The fenced commit: all batches of a group in one transaction, in one round trip or by COPY."""

from collections.abc import AsyncIterator, Sequence
from typing import Final

import asyncpg

from services.ledger_worker.core.batch import SealedBatch
from services.ledger_worker.ports import CommitUnknown
from services.ledger_worker.store.connections import Connections, fault_of
from shared.database import postgres
from shared.domain.ids import Partition
from shared.journal.rows import HASHED_COLUMNS, json_rows
from shared.runtime.compact_json import compact_json
from shared.runtime.fault_points import FaultPoint, fault_point

# Writes the batches of a group, or what COPY did not write, in one round trip. See 0011_whole_lists.sql.
APPEND = "SELECT written, recorded_at_us FROM ledger.append($1, $2)"
FENCE = "SELECT ledger.fence($1::smallint[], $2, $3::bigint[])"

# From this many operations on, a group is written by COPY, below it by one statement. Measured ms, statement / COPY:
# 1 command 0.9 / 2.2, 16 commands 2.3 / 3.3, 64 commands 5.2 / 3.5, 256 commands 9.6 / 8.0.
COPY_OPERATIONS_MIN: Final = 48
COPIED_TABLES: Final = ("operations", "entries")


class Commits(Connections):
    """The writing part of ports.Store."""

    def __init__(self, dsn: str, owner: str, *, copy_operations_min: int = COPY_OPERATIONS_MIN) -> None:
        super().__init__(dsn, owner)
        self._copy_operations_min = copy_operations_min

    async def commit(self, batches: Sequence[SealedBatch]) -> dict[Partition, int]:
        """See ports.Store. Treats any loss of the connection as one during COMMIT, which is the safe assumption."""
        async with self._locks["write"]:
            connection = await self._connected("write")
            try:
                recorded_at_us = await self._write(connection, batches)
            except postgres.CONNECTION_FAULTS as error:
                self._drop("write")
                raise CommitUnknown(repr(error)) from error
            except asyncpg.PostgresError as error:
                await self._roll_back(connection)
                raise fault_of(error) from error
            except BaseException:
                self._drop("write")
                raise
        fault_point(FaultPoint.WORKER_AFTER_COMMIT)
        return recorded_at_us

    async def _write(self, connection: postgres.Connection, batches: Sequence[SealedBatch]) -> dict[Partition, int]:
        fault_point(FaultPoint.WORKER_BEFORE_FENCE)
        if sum(len(batch.lines["operations"]) for batch in batches) < self._copy_operations_min:
            return await self._append(connection, _document(batches, skipped=()))
        await connection.execute("BEGIN")
        await connection.execute(
            FENCE, [batch.partition for batch in batches], self._owner, [batch.epoch for batch in batches]
        )
        for table in COPIED_TABLES:
            await _copy(connection, table, _lines(batches, table))
            fault_point(FaultPoint.WORKER_IN_BATCH)
        recorded_at_us = await self._append(connection, _document(batches, skipped=COPIED_TABLES))
        fault_point(FaultPoint.WORKER_BEFORE_COMMIT)
        await connection.execute("COMMIT")
        return recorded_at_us

    async def _append(self, connection: postgres.Connection, document: str) -> dict[Partition, int]:
        rows = await connection.fetch(APPEND, self._owner, document)
        return {Partition(row["written"]): int(row["recorded_at_us"]) for row in rows}

    async def _roll_back(self, connection: postgres.Connection) -> None:
        if not connection.is_in_transaction():
            return
        try:
            await connection.execute("ROLLBACK")
        except (*postgres.CONNECTION_FAULTS, asyncpg.PostgresError):
            self._drop("write")


def _document(batches: Sequence[SealedBatch], *, skipped: Sequence[str]) -> str:
    """The argument of ledger.append: JSON object, table → rows, each an array of its COPY line's fields."""
    tables: dict[str, str] = {}
    for table in HASHED_COLUMNS:
        lines = [] if table in skipped else _lines(batches, table)
        if lines:
            tables[table] = json_rows(lines)
    if assets := [line for batch in batches for line in batch.assets]:
        tables["assets"] = json_rows(assets)
    if changes := [[account, *change] for batch in batches for account, change in batch.account_changes.items()]:
        tables["account_changes"] = compact_json(changes).decode()
    tables["listed"] = compact_json([row for batch in batches for row in batch.listed]).decode()
    heads = [
        [
            str(batch.partition),
            str(batch.batch),
            str(batch.epoch),
            str(len(batch.lines["operations"])),
            str(len(batch.lines["entries"])),
            batch.cursors,
            batch.content_hash.hex(),
        ]
        for batch in batches
    ]
    tables["batches"] = compact_json(heads).decode()
    return "{" + ",".join(f'"{table}":{rows}' for table, rows in tables.items()) + "}"


def _lines(batches: Sequence[SealedBatch], table: str) -> list[str]:
    lines = [line for batch in batches for line in batch.lines[table]]
    if table == "operations":
        lines.sort()  # by id: all workers insert keys in the same order, so that repeats cannot deadlock
    return lines


async def _copy(connection: postgres.Connection, table: str, lines: Sequence[str]) -> None:
    if lines:
        # An async iterator, since asyncpg reads a file-like object in a thread.
        await connection.copy_to_table(
            table,
            schema_name="ledger",
            columns=list(HASHED_COLUMNS[table]),
            source=_once("".join(lines).encode()),
            format="text",
        )


async def _once(copied: bytes) -> AsyncIterator[bytes]:
    yield copied
