"""What the stores of deposits, credits and payouts do alike: claims, steps and intents.

Their tables have the same columns for this, so each statement stands here once. `of` is the store.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar, Generic, TypeAlias, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from shared.database import postgres
from shared.domain.ids import Partition
from shared.domain.lifecycle import Lifecycle
from shared.mixer.claimed_rows import ClaimedRow, ClaimLost, Intent, Leg
from shared.mixer.jobcoin_rows import Transfer

R = TypeVar("R", bound=ClaimedRow)
PooledConnection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

CLAIM = """
WITH due AS (
    SELECT id FROM {of.table}
     WHERE {of.has_next_step} AND next_at <= clock_timestamp() AND claimed_until <= clock_timestamp()
     ORDER BY next_at LIMIT $1 FOR UPDATE SKIP LOCKED)
UPDATE {of.table} AS claimed SET claim = claimed.claim + 1, claimed_until = clock_timestamp() + $2
  FROM due WHERE claimed.id = due.id RETURNING {of.claimed_columns}
"""
# Every change names the claim, so that a process that lost it changes nothing.
MOVE = """
UPDATE {of.table} SET state = $4, attempts = $5, reason = $6,
       stuck_in = CASE WHEN $4 = 'stuck' THEN state END, {of.step_columns}
 WHERE id = $1 AND claim = $2 AND state = $3 RETURNING id
"""
RELEASE = """
UPDATE {of.table} SET claimed_until = '-infinity', next_at = clock_timestamp() + $3, attempts = $4,
       reason = $5{of.release_columns}
 WHERE id = $1 AND claim = $2 RETURNING id
"""
NEXT_ATTEMPT = """
UPDATE {of.table} SET {command}_attempt = {command}_attempt + 1 WHERE id = $1 AND claim = $2 RETURNING id
"""
COUNT_REASONS = """
SELECT reason, count(*) AS rows FROM {of.table} WHERE {of.is_open} AND reason IS NOT NULL GROUP BY reason
"""
COUNT_ROWS = "SELECT state, count(*) AS rows FROM {of.table} WHERE {of.is_open} GROUP BY state"

OPEN_INTENT = """
INSERT INTO {of.intents} (id, {of.row_id}, leg, attempt, source, destination, amount_units, settles_at)
SELECT $1, $2, $3, coalesce(max(attempt), 0) + 1, $4, $5, $6, clock_timestamp() + $7
  FROM {of.intents} WHERE {of.row_id} = $2 AND leg = $3
"""
READ_INTENT = """
SELECT id, extract(epoch FROM settles_at - clock_timestamp()) AS settles_in_s
  FROM {of.intents} WHERE {of.row_id} = $1 AND ended IS NULL
"""
END_INTENT = "UPDATE {of.intents} SET ended = $2, seen_occurrence = $3 WHERE id = $1 AND ended IS NULL RETURNING id"
COUNT_INTENTS = "SELECT count(*) FROM {of.intents} WHERE ended IS NULL"


READ_LAST_BATCHES = """
SELECT p.partition, coalesce((SELECT max(b.batch) FROM ledger.batches b WHERE b.partition = p.partition), 0) AS batch
  FROM ledger.partitions p
"""


async def last_batches(pool: postgres.Pool) -> dict[Partition, int]:
    """The last batch of each partition in the journal."""
    return batches_of(await pool.fetch(READ_LAST_BATCHES))


def batches_of(rows: Sequence[asyncpg.Record]) -> dict[Partition, int]:
    """Partition → batch."""
    return {Partition(int(row["partition"])): int(row["batch"]) for row in rows}


class EqualTransferOpen(Exception):
    """An equal transfer is under way: in the network's list the two could not be told apart."""


class ClaimStore(ABC, Generic[R]):
    """A table of claimed rows. Every method raises what is in postgres.TRANSIENT_FAULTS; changes raise ClaimLost.

    `has_next_step` and `is_open` are conditions, as in the table's indexes of rows that are due or not finished.
    `step_columns` are assignments to the columns that only this table has; their values are $7 and on.
    `release_columns` are such assignments, too, for a row that is given back; they begin with a comma.
    """

    lifecycle: ClassVar[Lifecycle[StrEnum]]
    table: ClassVar[str]
    has_next_step: ClassVar[str]
    is_open: ClassVar[str]
    step_columns: ClassVar[str]
    release_columns: ClassVar[str] = ""
    # What `read` gets of a claimed row.
    claimed_columns: ClassVar[str] = "claimed.*"

    def __init__(self, pool: postgres.Pool) -> None:
        self._pool = pool

    @classmethod
    def sql(cls, statement: str, command: str = "") -> str:
        """One of the statements above on this table. `command` is the one that NEXT_ATTEMPT is about."""
        return statement.format(of=cls, command=command)

    @abstractmethod
    def read(self, record: asyncpg.Record) -> R:
        """The claimed row of a record, which has all columns of the table."""

    @abstractmethod
    def step_values(self, row: R) -> tuple[object, ...]:
        """The row's values for `step_columns`. What is None stays as it is."""

    async def claim(self, rows_max: int, claim_s: float) -> list[R]:
        """Due rows, ours until the claim runs out."""
        records = await self._pool.fetch(self.sql(CLAIM), rows_max, timedelta(seconds=claim_s))
        return [self.read(record) for record in records]

    async def move(self, before: R, after: R, reason: str | None = None) -> R:
        """Commits one step of the row's life and returns `after`. Raises InvariantBroken if there is no such step.

        `reason`: why the row is stuck. A row that goes on has none.
        """
        async with self._pool.acquire() as connection:
            return await self.move_within(connection, before, after, reason)

    async def move_within(self, connection: PooledConnection, before: R, after: R, reason: str | None = None) -> R:
        """As `move`, as part of the connection's transaction."""
        self.lifecycle.check(before.state, after.state)
        values = (before.state.value, after.state.value, after.attempts, reason, *self.step_values(after))
        if not await connection.fetchval(self.sql(MOVE), before.id, before.claim, *values):
            raise ClaimLost(before.id)
        return after

    async def release(self, row: R, wait_s: float, reason: str) -> None:
        """Gives the row back with its attempts; due again after `wait_s`. `reason` stays until its next step."""
        wait = timedelta(seconds=wait_s)
        if not await self._pool.fetchval(self.sql(RELEASE), row.id, row.claim, wait, row.attempts, reason):
            raise ClaimLost(row.id)

    async def next_attempt(self, row: R, command: str) -> None:
        """The row's command was rejected: from now on it is sent with the id of its next attempt."""
        if not await self._pool.fetchval(self.sql(NEXT_ATTEMPT, command), row.id, row.claim):
            raise ClaimLost(row.id)

    async def counts(self) -> dict[str, int]:
        """The number of rows by state, of those that are not finished."""
        return {str(row["state"]): int(row["rows"]) for row in await self._pool.fetch(self.sql(COUNT_ROWS))}

    async def reasons(self) -> dict[str, int]:
        """The number of rows that wait or are stuck, by their reason."""
        return {str(row["reason"]): int(row["rows"]) for row in await self._pool.fetch(self.sql(COUNT_REASONS))}


class IntentStore(ClaimStore[R]):
    """A table of claimed rows and the intents of their transfers. An intent is committed before anything is sent.

    `intents` is the table of the transfers, whose column `row_id` names the claimed row.
    """

    intents: ClassVar[str]
    row_id: ClassVar[str]

    @abstractmethod
    async def taken_rows(self, transfer: Transfer) -> set[int]:
        """Which of the listed rows that equal this transfer, by their numbers, are known to be other intents."""

    async def at_end(self, connection: PooledConnection, after: R) -> R:  # noqa: ARG002 - a subclass writes more
        """What else changes as the row comes to `after`, within the transaction. Returns the row with that."""
        return after

    async def open_intent(
        self, before: R, after: R, intent_id: str, leg: Leg, transfer: Transfer, settle_s: float
    ) -> None:
        """Commits the intent together with the step to `leg.under_way`. Raises EqualTransferOpen."""
        content = (transfer.source, transfer.destination, transfer.units, timedelta(seconds=settle_s))
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await self.move_within(connection, before, after)
                await connection.execute(self.sql(OPEN_INTENT), intent_id, before.id, leg.name, *content)
        except asyncpg.UniqueViolationError as fault:
            raise EqualTransferOpen(transfer.source) from fault

    async def read_intent(self, row: R) -> Intent | None:
        """The row's intent whose end is not known."""
        record = await self._pool.fetchrow(self.sql(READ_INTENT), row.id)
        return None if record is None else Intent(str(record["id"]), float(record["settles_in_s"]))

    async def end_intent(self, before: R, after: R, intent: Intent, ended: str, listed: int | None) -> R:
        """Commits what the network's list showed together with the step that follows from it; returns the row after.

        `listed`: the number of the listed transfer among equal ones; None if it is not there.
        """
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                if not await connection.fetchval(self.sql(END_INTENT), intent.id, ended, listed):
                    raise ClaimLost(before.id)
                return await self.move_within(connection, before, await self.at_end(connection, after))
        except asyncpg.UniqueViolationError as fault:
            raise ClaimLost("the listed transfer was taken for another intent meanwhile") from fault

    async def intents_open(self) -> int:
        """The number of intents whose end is not known."""
        return int(await self._pool.fetchval(self.sql(COUNT_INTENTS)))
