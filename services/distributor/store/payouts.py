"""Payouts and their intents.

Every change of a claimed payout names its claim and the state that it leaves: who lost the claim changes nothing.
"""

import uuid
from datetime import timedelta
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from services.distributor.core.payouts import FUND, Leg, Payout, PayoutState, check_step, one_shot_address
from shared import db
from shared.jobcoin_rows import UNITS_PER_MINOR, Address, RowId, Transfer
from shared.values import value
from shared.work import ClaimLost

CLAIM = """
WITH due AS (
    SELECT id FROM payouts.payouts
     WHERE state NOT IN ('paid', 'stuck') AND next_at <= clock_timestamp() AND claimed_until <= clock_timestamp()
     ORDER BY next_at LIMIT $1 FOR UPDATE SKIP LOCKED)
UPDATE payouts.payouts p SET claim = p.claim + 1, claimed_until = clock_timestamp() + $2
  FROM due WHERE p.id = due.id
RETURNING p.id, p.mix_id, p.destination, p.amount, p.state, p.hold_id, p.address, p.rounds, p.hold_attempt,
          p.capture_attempt, p.claim
"""
MOVE = """
UPDATE payouts.payouts SET state = $4, rounds = $5, reason = coalesce($6, reason),
       stuck_in = CASE WHEN $4 = 'stuck' THEN state END,
       hold_id = coalesce($7, hold_id), address = coalesce($8, address),
       paid_at = CASE WHEN $4 = 'sent' THEN clock_timestamp() ELSE paid_at END
 WHERE id = $1 AND claim = $2 AND state = $3 RETURNING id
"""
RELEASE = """
UPDATE payouts.payouts SET claimed_until = '-infinity', next_at = clock_timestamp() + $3, rounds = $4
 WHERE id = $1 AND claim = $2 RETURNING id
"""
NEXT_HOLD = """
UPDATE payouts.payouts SET hold_attempt = hold_attempt + 1 WHERE id = $1 AND claim = $2 AND hold_attempt = $3
RETURNING id
"""
NEXT_CAPTURE = """
UPDATE payouts.payouts SET capture_attempt = capture_attempt + 1
 WHERE id = $1 AND claim = $2 AND capture_attempt = $3 RETURNING id
"""
OPEN_INTENT = """
INSERT INTO payouts.intents (id, payout_id, leg, attempt, source, destination, amount, settles_at)
SELECT $1, $2, $3, coalesce(max(attempt), 0) + 1, $4, $5, $6, clock_timestamp() + $7
  FROM payouts.intents WHERE payout_id = $2 AND leg = $3
"""
READ_INTENT = """
SELECT id, clock_timestamp() >= settles_at AS is_settled,
       extract(epoch FROM settles_at - clock_timestamp()) AS settles_in_s
  FROM payouts.intents WHERE payout_id = $1 AND leg = $2 AND ended IS NULL
"""
END_INTENT = "UPDATE payouts.intents SET ended = $2, seen_row = $3 WHERE id = $1 AND ended IS NULL RETURNING id"
# A funding that was given up goes to an address that nobody will pay from; a day is far longer than any delay.
READ_GIVEN_UP = """
SELECT id, source, destination, amount FROM payouts.intents
 WHERE leg = 'fund' AND ended IN ('absent', 'refused') AND opened_at > clock_timestamp() - interval '1 day'
 ORDER BY opened_at DESC LIMIT $1
"""
WRITE_RETURNED = """
UPDATE payouts.intents SET ended = 'returned', seen_row = $2 WHERE id = $1 AND ended IN ('absent', 'refused')
"""
READ_COUNTS = "SELECT state, count(*) AS payouts FROM payouts.payouts GROUP BY state"
READ_OPEN_INTENTS = "SELECT count(*) FROM payouts.intents WHERE ended IS NULL"
READ_OLDEST_DUE = """
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(due_at)), 0) FROM payouts.payouts
 WHERE state NOT IN ('paid', 'stuck') AND due_at <= clock_timestamp()
"""

Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"


@value
class Intent:
    """A transfer that may be under way. Once it is settled, absence from the list proves that it was not applied."""

    id: str
    is_settled: bool
    settles_in_s: float


class PayoutStore:
    """Every method raises what is in db.TRANSIENT_FAULTS; those about a claimed payout raise ClaimLost."""

    def __init__(self, pool: db.Pool) -> None:
        self._pool = pool

    async def claim(self, payouts_max: int, claim_s: float) -> list[Payout]:
        """Due payouts, ours until the claim runs out."""
        return [_payout(row) for row in await self._pool.fetch(CLAIM, payouts_max, timedelta(seconds=claim_s))]

    async def move(
        self, payout: Payout, after: PayoutState, *, hold: str | None = None, reason: str | None = None
    ) -> None:
        """One step of the payout's life; a new step begins with no rounds."""
        check_step(payout.state, after)
        async with self._pool.acquire() as connection:
            await _move(connection, payout, after, rounds=0, hold=hold, reason=reason)

    async def release(self, payout: Payout, wait_s: float, *, rounds: int) -> None:
        """Lets go of the payout; it is due again after `wait_s`."""
        if not await self._pool.fetchval(RELEASE, payout.id, payout.claim, timedelta(seconds=wait_s), rounds):
            raise ClaimLost(payout.id)

    async def open_intent(self, payout: Payout, leg: Leg, house: Address, settle_s: float) -> Address:
        """The intent, before anything is sent; returns the one-shot address, which a funding chooses anew."""
        check_step(payout.state, leg.under_way)
        intent = str(uuid.uuid4())
        address = one_shot_address(intent) if leg is FUND or payout.address is None else payout.address
        source, destination = (house, address) if leg is FUND else (address, payout.destination)
        async with self._pool.acquire() as connection, connection.transaction():
            await _move(connection, payout, leg.under_way, rounds=payout.rounds, address=address)
            await connection.execute(
                OPEN_INTENT,
                intent,
                payout.id,
                leg.name,
                source,
                destination,
                payout.amount,
                timedelta(seconds=settle_s),
            )
        return address

    async def intent(self, payout: Payout, leg: Leg) -> Intent | None:
        """The payout's open intent for this leg."""
        row = await self._pool.fetchrow(READ_INTENT, payout.id, leg.name)
        return None if row is None else Intent(str(row["id"]), bool(row["is_settled"]), float(row["settles_in_s"]))

    async def end_intent(
        self, payout: Payout, intent: Intent, ended: str, seen: RowId | None, after: PayoutState, *, rounds: int = 0
    ) -> None:
        """What the list showed, and the step that follows from it, together."""
        check_step(payout.state, after)
        async with self._pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval(END_INTENT, intent.id, ended, seen):
                raise ClaimLost(payout.id)
            await _move(connection, payout, after, rounds=rounds)

    async def next_hold(self, payout: Payout) -> None:
        """The attempt was read as rejected: the next one may be made."""
        if not await self._pool.fetchval(NEXT_HOLD, payout.id, payout.claim, payout.hold_attempt):
            raise ClaimLost(payout.id)

    async def next_capture(self, payout: Payout) -> None:
        """The attempt was read as rejected: the next one may be made."""
        if not await self._pool.fetchval(NEXT_CAPTURE, payout.id, payout.claim, payout.capture_attempt):
            raise ClaimLost(payout.id)

    async def given_up(self, intents_max: int) -> list[tuple[str, Transfer]]:
        """Fundings of the last day that were taken for absent, newest first."""
        return [
            (
                str(row["id"]),
                Transfer(Address(row["source"]), Address(row["destination"]), int(row["amount"]) * UNITS_PER_MINOR),
            )
            for row in await self._pool.fetch(READ_GIVEN_UP, intents_max)
        ]

    async def write_returned(self, intent: str, seen: RowId) -> None:
        """It was applied after all, and its coins are back at the house."""
        await self._pool.execute(WRITE_RETURNED, intent, seen)

    async def counts(self) -> tuple[dict[str, int], int, float]:
        """Payouts by state, intents that are open, and for how many seconds the oldest unpaid one has been due."""
        rows = await self._pool.fetch(READ_COUNTS)
        counts = {str(row["state"]): int(row["payouts"]) for row in rows}
        open_intents = int(await self._pool.fetchval(READ_OPEN_INTENTS))
        return counts, open_intents, float(await self._pool.fetchval(READ_OLDEST_DUE))


async def _move(
    connection: Connection,
    payout: Payout,
    after: PayoutState,
    *,
    rounds: int,
    reason: str | None = None,
    hold: str | None = None,
    address: str | None = None,
) -> None:
    if not await connection.fetchval(
        MOVE, payout.id, payout.claim, payout.state.value, after.value, rounds, reason, hold, address
    ):
        raise ClaimLost(payout.id)


def _payout(row: asyncpg.Record) -> Payout:
    return Payout(
        id=str(row["id"]), mix=str(row["mix_id"]), destination=Address(row["destination"]), amount=int(row["amount"]),
        state=PayoutState(row["state"]), hold=None if row["hold_id"] is None else str(row["hold_id"]),
        address=None if row["address"] is None else Address(row["address"]), rounds=int(row["rounds"]),
        hold_attempt=int(row["hold_attempt"]), capture_attempt=int(row["capture_attempt"]), claim=int(row["claim"]),
    )  # fmt: skip
