"""The poller's SQL for deposits: found in the network's list, confirmed, and collected into sweeps."""

import hashlib
import uuid
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from services.deposit_poller.core.deposits import (
    ContentKey,
    ListedDeposit,
    UnconfirmedDeposit,
    content_key,
    deposit_id,
    stored,
)
from services.deposit_poller.core.sweeps import UnsweptDeposit, collected
from shared.database import postgres
from shared.mixer.jobcoin_rows import Address, ListedRow
from shared.mixer.json_array import NOTHING_READ, ArrayPosition
from shared.mixer.store import PooledConnection
from shared.runtime.refusal import StartRefused

RECORDS_MAX: Final = 5_000

READ_CURSOR = "SELECT rows, bytes, prefix_hash FROM mixer.list_cursors WHERE network = $1"
LOCK_CURSOR = "SELECT rows, bytes, prefix_hash FROM mixer.list_cursors WHERE network = $1 FOR UPDATE"
WRITE_CURSOR = """
INSERT INTO mixer.list_cursors (network, rows, bytes, prefix_hash) VALUES ($1, $2, $3, $4)
ON CONFLICT (network) DO UPDATE SET rows = $2, bytes = $3, prefix_hash = $4, read_at = clock_timestamp()
"""
# All deposits of a ledger are of one network.
READ_NETWORK = "SELECT network FROM mixer.deposits LIMIT 1"
READ_KNOWN = """
SELECT wanted.sender, wanted.address, wanted.units,
       (SELECT max(occurrence) FROM mixer.deposits d
         WHERE d.network = $1 AND d.address = wanted.address AND d.amount_units = wanted.units
           AND d.sender_hash = sha256(convert_to(wanted.sender, 'UTF8'))) AS occurrence
  FROM unnest($2::text[], $3::text[], $4::numeric[]) AS wanted (sender, address, units)
"""
WRITE_DEPOSIT = """
INSERT INTO mixer.deposits (id, mix_id, network, occurred_at, sender, sender_hash, address, occurrence, amount_units)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING
"""
# Every deposit that counted, and every sweep that was seen, must still be listed when the list has changed.
READ_CONFIRMED_CONTENTS = """
SELECT sender, address, amount_units, max(occurrence) AS occurrence FROM mixer.deposits
 WHERE network = $1 AND confirmed_at IS NOT NULL AND sender <> address GROUP BY sender, address, amount_units
"""
READ_SEEN_CONTENTS = """
SELECT source AS sender, destination AS address, amount_units, max(seen_occurrence) AS occurrence
  FROM mixer.sweep_intents WHERE seen_occurrence IS NOT NULL GROUP BY source, destination, amount_units
"""
START_DISPUTES = """
UPDATE mixer.mixes SET disputed_at = clock_timestamp() WHERE deposit_address = ANY($1) AND disputed_at IS NULL
RETURNING deposit_address
"""
END_DISPUTES = """
UPDATE mixer.mixes SET disputed_at = NULL WHERE disputed_at IS NOT NULL AND deposit_address <> ALL($1)
RETURNING deposit_address
"""
COUNT_DISPUTED = "SELECT count(*) FROM mixer.mixes WHERE disputed_at IS NOT NULL"

READ_UNCONFIRMED = """
SELECT id, mix_id, sender, address, amount_units, occurrence FROM mixer.deposits
 WHERE confirmed_at IS NULL AND next_at <= clock_timestamp() ORDER BY next_at LIMIT $1
"""
CONFIRM = """
WITH confirmed AS (
    UPDATE mixer.deposits SET confirmed_at = clock_timestamp()
     WHERE id = ANY($1::uuid[]) AND confirmed_at IS NULL RETURNING mix_id, amount_units),
sums AS (SELECT mix_id, sum(amount_units) AS units FROM confirmed GROUP BY mix_id)
UPDATE mixer.mixes m SET unswept_units = m.unswept_units + sums.units FROM sums WHERE m.id = sums.mix_id
"""
# Twice as long after each try.
POSTPONE = """
UPDATE mixer.deposits
   SET attempts = attempts + 1,
       next_at = clock_timestamp() + least($2::interval * 2 ^ least(attempts, 20), $3)
 WHERE id = ANY($1::uuid[])
"""
COUNT_UNCONFIRMED = "SELECT count(*) FROM mixer.deposits WHERE confirmed_at IS NULL AND next_at < 'infinity'"

READ_WORTH_SWEEPING = """
SELECT id FROM mixer.mixes m
 WHERE unswept_units >= minimum * 1e22 AND disputed_at IS NULL
   AND NOT EXISTS (SELECT FROM mixer.sweeps s WHERE s.mix_id = m.id AND s.state IN ('planned', 'sending', 'seen'))
 LIMIT $1
"""
LOCK_MIX = """
SELECT unswept_units >= minimum * 1e22 AND disputed_at IS NULL AS is_worth_it FROM mixer.mixes WHERE id = $1 FOR UPDATE
"""
READ_UNSWEPT = """
SELECT id, amount_units FROM mixer.deposits WHERE mix_id = $1 AND sweep_id IS NULL AND confirmed_at IS NOT NULL
 ORDER BY seen_at, id
"""
WRITE_SWEEP = "INSERT INTO mixer.sweeps (id, mix_id, amount_units) VALUES ($1, $2, $3)"
COLLECT = "UPDATE mixer.deposits SET sweep_id = $2 WHERE id = ANY($1::uuid[])"
TAKE_UNSWEPT = "UPDATE mixer.mixes SET unswept_units = unswept_units - $2 WHERE id = $1"


class CursorMoved(Exception):
    """Another process has read the list on meanwhile: this reading is begun anew from there."""


class DepositStore:
    """Every method raises what is in postgres.TRANSIENT_FAULTS. `network` names the network whose list is read."""

    def __init__(self, pool: postgres.Pool, network: str) -> None:
        self._pool = pool
        self._network = network

    async def check_network(self) -> None:
        """Raises StartRefused if the ledger's deposits are those of another network: all would be found once more."""
        known = await self._pool.fetchval(READ_NETWORK)
        if known not in {None, self._network}:
            raise StartRefused(
                f"TELLERLINE_JOBCOIN_NETWORK is {self._network}, but the deposits of this ledger are of {known}"
            )

    async def cursor(self) -> ArrayPosition:
        """How much of the list need not be read again."""
        row = await self._pool.fetchrow(READ_CURSOR, self._network)
        return _position(row)

    async def known(self, rows: Sequence[ListedRow]) -> dict[ContentKey, int]:
        """How many transactions with the content of each of the rows are recorded."""
        contents = {(stored(row.source), row.destination, row.units) for row in rows}
        if not contents:
            return {}
        senders, addresses, units = (list(column) for column in zip(*contents, strict=True))
        records = await self._pool.fetch(READ_KNOWN, self._network, senders, addresses, units)
        return {
            content_key(record["sender"], record["address"], int(record["units"])): int(record["occurrence"] or 0)
            for record in records
        }

    async def extend(self, before: ArrayPosition, after: ArrayPosition, found: Sequence[ListedDeposit]) -> None:
        """Commits deposits and cursor together, so that whatever lies before the cursor is recorded.

        Raises CursorMoved.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await self._move_cursor(connection, before, after)
            await self._write(connection, found)

    async def add(self, found: Sequence[ListedDeposit]) -> None:
        """Records those that are not recorded yet."""
        async with self._pool.acquire() as connection, connection.transaction():
            await self._write(connection, found)

    async def replace_cursor(
        self, before: ArrayPosition, after: ArrayPosition, missing: Collection[str]
    ) -> tuple[list[str], list[str]]:
        """The list was read anew. Returns the addresses that are disputed from now on, and those no longer.

        `missing`: our addresses of which it lacks transactions. Raises CursorMoved.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await self._move_cursor(connection, before, after)
            started = await connection.fetch(START_DISPUTES, list(missing))
            ended = await connection.fetch(END_DISPUTES, list(missing))
        return [str(row[0]) for row in started], [str(row[0]) for row in ended]

    async def contents(self) -> AsyncIterator[tuple[Address, ContentKey, int]]:
        """What the list must still show: our address, a content, and how many transactions with it."""
        async with self._pool.acquire() as connection, connection.transaction():
            async for row in connection.cursor(READ_CONFIRMED_CONTENTS, self._network, prefetch=RECORDS_MAX):
                key = content_key(row["sender"], row["address"], int(row["amount_units"]))
                yield Address(row["address"]), key, int(row["occurrence"])
            async for row in connection.cursor(READ_SEEN_CONTENTS, prefetch=RECORDS_MAX):
                key = content_key(row["sender"], row["address"], int(row["amount_units"]))
                yield Address(row["sender"]), key, int(row["occurrence"])

    async def unconfirmed(self, rows_max: int) -> list[UnconfirmedDeposit]:
        """Recorded deposits whose address should be asked now."""
        return [
            UnconfirmedDeposit(
                id=str(row["id"]),
                mix=str(row["mix_id"]),
                sender=row["sender"],
                address=Address(row["address"]),
                units=int(row["amount_units"]),
                occurrence=int(row["occurrence"]),
            )
            for row in await self._pool.fetch(READ_UNCONFIRMED, rows_max)
        ]

    async def confirm(self, deposits: Sequence[UnconfirmedDeposit]) -> None:
        """From now on they count."""
        await self._pool.execute(CONFIRM, [deposit.id for deposit in deposits])

    async def postpone(self, deposits: Sequence[UnconfirmedDeposit], wait_s: float, wait_s_max: float) -> None:
        """Their address is asked again after `wait_s`, and after longer times up to the maximum if it was before."""
        wait, wait_max = timedelta(seconds=wait_s), timedelta(seconds=wait_s_max)
        await self._pool.execute(POSTPONE, [deposit.id for deposit in deposits], wait, wait_max)

    async def worth_sweeping(self, mixes_max: int) -> list[str]:
        """Mixes whose address holds enough to be swept, and has no sweep under way."""
        return [str(row["id"]) for row in await self._pool.fetch(READ_WORTH_SWEEPING, mixes_max)]

    async def plan_sweep(self, mix: str) -> str | None:
        """Collects what lies unswept at the address of the mix. Returns the sweep's id; None if it is not worth one."""
        async with self._pool.acquire() as connection, connection.transaction():
            # Another process may be planning: what it took is seen only by a statement after the lock.
            if not await connection.fetchval(LOCK_MIX, mix):
                return None
            rows = await connection.fetch(READ_UNSWEPT, mix)
            deposits = collected([UnsweptDeposit(str(row["id"]), int(row["amount_units"])) for row in rows])
            sweep, units = str(uuid.uuid4()), sum(deposit.units for deposit in deposits)
            await connection.execute(WRITE_SWEEP, sweep, mix, units)
            await connection.execute(COLLECT, [deposit.id for deposit in deposits], sweep)
            await connection.execute(TAKE_UNSWEPT, mix, units)
        return sweep

    async def counts(self) -> tuple[int, int]:
        """The number of deposits that wait for their address to show them, and of disputed addresses."""
        return int(await self._pool.fetchval(COUNT_UNCONFIRMED)), int(await self._pool.fetchval(COUNT_DISPUTED))

    async def _move_cursor(self, connection: PooledConnection, before: ArrayPosition, after: ArrayPosition) -> None:
        if _position(await connection.fetchrow(LOCK_CURSOR, self._network)) != before:
            raise CursorMoved
        await connection.execute(WRITE_CURSOR, self._network, after.rows, after.size, after.hash)

    async def _write(self, connection: PooledConnection, found: Sequence[ListedDeposit]) -> None:
        await connection.executemany(WRITE_DEPOSIT, [self._record(deposit) for deposit in found])

    def _record(self, deposit: ListedDeposit) -> tuple[object, ...]:
        row, sender = deposit.row, stored(deposit.row.source)
        return (
            deposit_id(self._network, row.transfer, deposit.occurrence),
            deposit.mix,
            self._network,
            datetime.fromisoformat(row.timestamp),
            sender,
            hashlib.sha256(sender.encode()).digest(),
            row.destination,
            deposit.occurrence,
            row.units,
        )


def _position(row: asyncpg.Record | None) -> ArrayPosition:
    if row is None:
        return NOTHING_READ
    return ArrayPosition(int(row["rows"]), int(row["bytes"]), bytes(row["prefix_hash"]))
