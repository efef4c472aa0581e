"""Deposits, their sweeps, and the cursor over the network's list.

Every change of a claimed deposit names its claim and the state that it leaves: who lost the claim changes nothing.
"""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from services.deposit_poller.core.deposits import Deposit, DepositState, check_step
from services.deposit_poller.core.listing import Prefix, Sighting
from shared import db
from shared.jobcoin_rows import Address, Row, RowId, Transfer, split_units
from shared.values import value
from shared.work import ClaimLost

READ_CURSOR = "SELECT position, prefix_hash FROM mixer.list_cursors WHERE instance = $1"
WRITE_CURSOR = """
INSERT INTO mixer.list_cursors (instance, position, prefix_hash) VALUES ($1, $2, $3)
ON CONFLICT (instance) DO UPDATE SET position = $2, prefix_hash = $3, read_at = clock_timestamp()
"""
READ_KNOWN = "SELECT id FROM mixer.deposits WHERE id = ANY($1::uuid[])"
WRITE_DEPOSIT = """
INSERT INTO mixer.deposits (id, mix_id, instance, listed_at, occurred_at, sender, address, occurrence,
                            amount_units, amount_minor, rest_units)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING
"""
CLAIM = """
WITH due AS (
    SELECT id FROM mixer.deposits
     WHERE state IN ('seen', 'sweeping', 'swept')
       AND next_at <= clock_timestamp() AND claimed_until <= clock_timestamp()
     ORDER BY next_at LIMIT $1 FOR UPDATE SKIP LOCKED)
UPDATE mixer.deposits d SET claim = d.claim + 1, claimed_until = clock_timestamp() + $2
  FROM due WHERE d.id = due.id
RETURNING d.id, d.mix_id, d.listed_at, d.sender, d.address, d.occurrence, d.amount_units, d.amount_minor, d.state,
          d.rounds, d.credit_attempt, d.claim
"""
MOVE = """
UPDATE mixer.deposits SET state = $4, rounds = $5, reason = coalesce($6, reason),
       stuck_in = CASE WHEN $4 = 'stuck' THEN state END
 WHERE id = $1 AND claim = $2 AND state = $3 RETURNING id
"""
RELEASE = """
UPDATE mixer.deposits SET claimed_until = '-infinity', next_at = clock_timestamp() + $3, rounds = $4
 WHERE id = $1 AND claim = $2 RETURNING id
"""
OPEN_SWEEP = """
INSERT INTO mixer.sweeps (id, deposit_id, attempt, source, destination, amount_units, settles_at)
SELECT gen_random_uuid(), $1, coalesce(max(attempt), 0) + 1, $2, $3, $4, clock_timestamp() + $5
  FROM mixer.sweeps WHERE deposit_id = $1
RETURNING id
"""
READ_SWEEP = """
SELECT id, clock_timestamp() >= settles_at AS is_settled,
       extract(epoch FROM settles_at - clock_timestamp()) AS settles_in_s
  FROM mixer.sweeps WHERE deposit_id = $1 AND ended IS NULL
"""
READ_CLAIMED_ROWS = "SELECT seen_row FROM mixer.sweeps WHERE source = $1 AND seen_row IS NOT NULL"
END_SWEEP = "UPDATE mixer.sweeps SET ended = $2, seen_row = $3 WHERE id = $1 AND ended IS NULL RETURNING id"
NEXT_CREDIT = """
UPDATE mixer.deposits SET credit_attempt = credit_attempt + 1
 WHERE id = $1 AND claim = $2 AND credit_attempt = $3 RETURNING id
"""
WRITE_CREDITED = """
UPDATE mixer.deposits SET state = 'credited', credit_operation_id = $3, credited_at = clock_timestamp(), rounds = 0
 WHERE id = $1 AND claim = $2 AND state = 'swept' RETURNING id
"""
READ_COUNTS = "SELECT state, count(*) AS deposits FROM mixer.deposits GROUP BY state"
READ_OPEN_SWEEPS = "SELECT count(*) FROM mixer.sweeps WHERE ended IS NULL"


@value
class Sweep:
    """An intent that is open. Once it is settled, absence from the list proves that it was not applied."""

    id: str
    is_settled: bool
    settles_in_s: float


Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"


class AnotherUnderWay(Exception):
    """An equal transfer is open: the network could not tell the two apart."""


class DepositStore:
    """Every method raises what is in db.TRANSIENT_FAULTS; those about a claimed deposit raise ClaimLost."""

    def __init__(self, pool: db.Pool, instance: str) -> None:
        self._pool = pool
        self._instance = instance

    async def cursor(self) -> tuple[int, bytes]:
        """How far the list was read, and the hash of what was read."""
        row = await self._pool.fetchrow(READ_CURSOR, self._instance)
        return (0, Prefix().hash) if row is None else (int(row["position"]), bytes(row["prefix_hash"]))

    async def known(self, wanted: Collection[RowId]) -> set[str]:
        """Those that are recorded."""
        rows = await self._pool.fetch(READ_KNOWN, list(wanted)) if wanted else []
        return {str(row["id"]) for row in rows}

    async def record(self, counted: Sequence[Sighting], prefix: Prefix) -> None:
        """Deposits and cursor together: what lies before the cursor is recorded."""
        async with self._pool.acquire() as connection, connection.transaction():
            for sighting in counted:
                row, (minor, rest) = sighting.row, split_units(sighting.row.units)
                await connection.execute(
                    WRITE_DEPOSIT, sighting.id, sighting.mix, self._instance, row.timestamp, row.occurred_at,
                    storable(row.source), row.destination, sighting.occurrence, row.units, minor, rest,
                )  # fmt: skip
            await connection.execute(WRITE_CURSOR, self._instance, prefix.position, prefix.hash)

    async def claim(self, deposits_max: int, claim_s: float) -> list[Deposit]:
        """Due deposits, ours until the claim runs out."""
        rows = await self._pool.fetch(CLAIM, deposits_max, timedelta(seconds=claim_s))
        return [_deposit(row) for row in rows]

    async def move(self, deposit: Deposit, after: DepositState, *, reason: str | None = None) -> None:
        """One step of the deposit's life, on the spot; a new step begins with no rounds."""
        check_step(deposit.state, after)
        async with self._pool.acquire() as connection:
            await _move(connection, deposit, after, rounds=0, reason=reason)

    async def release(self, deposit: Deposit, wait_s: float, *, rounds: int) -> None:
        """Lets go of the deposit; it is due again after `wait_s`."""
        if not await self._pool.fetchval(RELEASE, deposit.id, deposit.claim, timedelta(seconds=wait_s), rounds):
            raise ClaimLost(deposit.id)

    async def open_sweep(self, deposit: Deposit, transfer: Transfer, settle_s: float) -> None:
        """The intent, before anything is sent. Raises AnotherUnderWay."""
        check_step(deposit.state, DepositState.SWEEPING)
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await _move(connection, deposit, DepositState.SWEEPING, rounds=deposit.rounds)
                await connection.fetchval(
                    OPEN_SWEEP,
                    deposit.id,
                    transfer.source,
                    transfer.destination,
                    transfer.units,
                    timedelta(seconds=settle_s),
                )
        except asyncpg.UniqueViolationError as fault:
            raise AnotherUnderWay(transfer.source) from fault

    async def sweep(self, deposit: Deposit) -> Sweep | None:
        """The deposit's open intent."""
        row = await self._pool.fetchrow(READ_SWEEP, deposit.id)
        return None if row is None else Sweep(str(row["id"]), bool(row["is_settled"]), float(row["settles_in_s"]))

    async def claimed_rows(self, source: Address) -> set[str]:
        """The listed transactions from this address that are known to be somebody's sweep."""
        return {str(row["seen_row"]) for row in await self._pool.fetch(READ_CLAIMED_ROWS, source)}

    async def end_sweep(
        self, deposit: Deposit, sweep: Sweep, ended: str, seen: RowId | None, after: DepositState, *, rounds: int = 0
    ) -> None:
        """What the list showed, and the step that follows from it, together."""
        check_step(deposit.state, after)
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                if not await connection.fetchval(END_SWEEP, sweep.id, ended, seen):
                    raise ClaimLost(deposit.id)
                await _move(connection, deposit, after, rounds=rounds)
        except asyncpg.UniqueViolationError as fault:
            raise ClaimLost("the listed sweep was taken for another deposit meanwhile") from fault

    async def next_credit(self, deposit: Deposit) -> None:
        """The attempt was read as rejected: the next one may be made."""
        if not await self._pool.fetchval(NEXT_CREDIT, deposit.id, deposit.claim, deposit.credit_attempt):
            raise ClaimLost(deposit.id)

    async def write_credited(self, deposit: Deposit, operation: str | None) -> None:
        """The ledger has it; None: it was too small to be worth one minor unit."""
        check_step(deposit.state, DepositState.CREDITED)
        if not await self._pool.fetchval(WRITE_CREDITED, deposit.id, deposit.claim, operation):
            raise ClaimLost(deposit.id)

    async def counts(self) -> tuple[dict[str, int], int]:
        """Deposits by state, and sweeps that are open."""
        rows = await self._pool.fetch(READ_COUNTS)
        return {str(row["state"]): int(row["deposits"]) for row in rows}, int(
            await self._pool.fetchval(READ_OPEN_SWEEPS)
        )


async def _move(
    connection: Connection, deposit: Deposit, after: DepositState, *, rounds: int, reason: str | None = None
) -> None:
    if not await connection.fetchval(MOVE, deposit.id, deposit.claim, deposit.state.value, after.value, rounds, reason):
        raise ClaimLost(deposit.id)


def storable(address: str) -> str:
    """The address as PostgreSQL can keep it: what does not print (NUL, lone surrogates) is escaped, and backslashes."""
    if address.isprintable() and "\\" not in address:
        return address
    return address.encode("unicode_escape").decode("ascii")


def _deposit(row: asyncpg.Record) -> Deposit:
    listed = Row(row["listed_at"], Address(row["sender"]), Address(row["address"]), int(row["amount_units"]))
    return Deposit(
        id=str(row["id"]), mix=str(row["mix_id"]), row=listed, occurrence=int(row["occurrence"]),
        minor=int(row["amount_minor"]), state=DepositState(row["state"]), rounds=int(row["rounds"]),
        credit_attempt=int(row["credit_attempt"]), claim=int(row["claim"]),
    )  # fmt: skip
