"""The journal's credits of mixes, and the plans that follow from them."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta

import asyncpg

from services.distributor.core.plan import Increment
from shared import db
from shared.ids import Partition
from shared.mixer_ledger import mix_account
from shared.values import value
from shared.work import ClaimLost

READ_CURSORS = "SELECT partition, batch FROM payouts.cursors"
READ_HEADS = """
SELECT p.partition, coalesce((SELECT max(b.batch) FROM ledger.batches b WHERE b.partition = p.partition), 0) AS batch
  FROM ledger.partitions p
"""
# A partition's batches are committed in order, so what lies up to a batch that is there will not change any more.
READ_CREDITS = """
SELECT id, postings FROM ledger.operations
 WHERE principal = 'tellerline:mixer' AND kind = 'deposit.v1' AND outcome = 'posted'
   AND partition = $1 AND batch > $2 AND batch <= $3 ORDER BY batch, line
"""
WRITE_CREDIT = """
INSERT INTO payouts.credits (operation_id, mix_id, amount) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""
WRITE_CURSOR = """
INSERT INTO payouts.cursors (partition, batch) VALUES ($1, $2)
ON CONFLICT (partition) DO UPDATE SET batch = greatest(payouts.cursors.batch, $2)
"""
CLAIM = """
WITH due AS (
    SELECT operation_id FROM payouts.credits
     WHERE state = 'new' AND next_at <= clock_timestamp() AND claimed_until <= clock_timestamp()
     ORDER BY next_at LIMIT $1 FOR UPDATE SKIP LOCKED)
UPDATE payouts.credits c SET claim = c.claim + 1, claimed_until = clock_timestamp() + $2
  FROM due, mixer.mixes m WHERE c.operation_id = due.operation_id AND m.id = c.mix_id
RETURNING c.operation_id, c.mix_id, c.amount, c.rounds, c.fee_attempt, c.claim,
          m.destinations, m.fee_ppm, m.delay_ms_min, m.delay_ms_max
"""
WRITE_PAYOUT = """
INSERT INTO payouts.payouts (id, credit_id, mix_id, number, destination, amount, due_at, next_at)
VALUES (gen_random_uuid(), $1, $2, $3, $4, $5, clock_timestamp() + $6, clock_timestamp() + $6)
"""
# The payouts are there already: at the end of the transaction the database checks that they and the fee are the credit.
WRITE_PLANNED = """
UPDATE payouts.credits SET state = 'planned', fee = $3 WHERE operation_id = $1 AND claim = $2 AND state = 'new'
RETURNING operation_id
"""
RELEASE = """
UPDATE payouts.credits SET claimed_until = '-infinity', next_at = clock_timestamp() + $3, rounds = $4
 WHERE operation_id = $1 AND claim = $2 RETURNING operation_id
"""
NEXT_FEE = """
UPDATE payouts.credits SET fee_attempt = fee_attempt + 1 WHERE operation_id = $1 AND claim = $2 AND fee_attempt = $3
RETURNING operation_id
"""
WRITE_STUCK = """
UPDATE payouts.credits SET state = 'stuck', stuck_in = state, reason = $3
 WHERE operation_id = $1 AND claim = $2 AND state = 'new' RETURNING operation_id
"""


@value
class Credit:
    """A credit that this process has claimed, with what its mix asks for. Amounts in minor units."""

    id: str
    mix: str
    amount: int
    rounds: int
    fee_attempt: int
    claim: int
    destinations: tuple[str, ...]
    fee_ppm: int
    delay_ms_min: int
    delay_ms_max: int


class JournalFault(Exception):
    """The journal says something of a mix that the mixer never asked for."""


class CreditStore:
    """Every method raises what is in db.TRANSIENT_FAULTS; those about a claimed credit raise ClaimLost."""

    def __init__(self, pool: db.Pool) -> None:
        self._pool = pool

    async def cursors(self) -> dict[Partition, int]:
        """The last batch of each partition that was read, where any was."""
        rows = await self._pool.fetch(READ_CURSORS)
        return {Partition(int(row["partition"])): int(row["batch"]) for row in rows}

    async def heads(self) -> dict[Partition, int]:
        """The last batch of each partition that is there."""
        rows = await self._pool.fetch(READ_HEADS)
        return {Partition(int(row["partition"])): int(row["batch"]) for row in rows}

    async def credits_between(self, partition: Partition, after: int, until: int) -> list[tuple[str, str, int]]:
        """Operation, mix and amount of each credit in the batches after `after` up to `until`."""
        rows = await self._pool.fetch(READ_CREDITS, partition, after, until)
        return [(str(row["id"]), *_mix_and_amount(row["postings"])) for row in rows]

    async def record(self, found: Sequence[tuple[str, str, int]], cursors: Mapping[Partition, int]) -> None:
        """Credits and cursors together: each credit is recorded once, whoever reads it, however often."""
        async with self._pool.acquire() as connection, connection.transaction():
            for operation, mix, amount in found:
                await connection.execute(WRITE_CREDIT, operation, mix, amount)
            for partition, batch in sorted(cursors.items()):
                await connection.execute(WRITE_CURSOR, partition, batch)

    async def claim(self, credits_max: int, claim_s: float) -> list[Credit]:
        """Credits without a plan, ours until the claim runs out."""
        rows = await self._pool.fetch(CLAIM, credits_max, timedelta(seconds=claim_s))
        return [_credit(row) for row in rows]

    async def write_plan(self, credit: Credit, fee: int, increments: Sequence[Increment]) -> None:
        """The whole plan in one commit, which fails unless its parts add up."""
        async with self._pool.acquire() as connection, connection.transaction():
            for increment in increments:
                await connection.execute(
                    WRITE_PAYOUT, credit.id, credit.mix, increment.number, increment.destination, increment.amount,
                    timedelta(milliseconds=increment.delay_ms),
                )  # fmt: skip
            if not await connection.fetchval(WRITE_PLANNED, credit.id, credit.claim, fee):
                raise ClaimLost(credit.id)

    async def release(self, credit: Credit, wait_s: float, *, rounds: int) -> None:
        """Lets go of the credit; it is due again after `wait_s`."""
        if not await self._pool.fetchval(RELEASE, credit.id, credit.claim, timedelta(seconds=wait_s), rounds):
            raise ClaimLost(credit.id)

    async def next_fee(self, credit: Credit) -> None:
        """The attempt was read as rejected: the next one may be made."""
        if not await self._pool.fetchval(NEXT_FEE, credit.id, credit.claim, credit.fee_attempt):
            raise ClaimLost(credit.id)

    async def write_stuck(self, credit: Credit, reason: str) -> None:
        """An operator has to look."""
        if not await self._pool.fetchval(WRITE_STUCK, credit.id, credit.claim, reason):
            raise ClaimLost(credit.id)


def _credit(row: asyncpg.Record) -> Credit:
    return Credit(
        id=str(row["operation_id"]),
        mix=str(row["mix_id"]),
        amount=int(row["amount"]),
        rounds=int(row["rounds"]),
        fee_attempt=int(row["fee_attempt"]),
        claim=int(row["claim"]),
        destinations=tuple(row["destinations"]),
        fee_ppm=int(row["fee_ppm"]),
        delay_ms_min=int(row["delay_ms_min"]),
        delay_ms_max=int(row["delay_ms_max"]),
    )


def _mix_and_amount(postings: str) -> tuple[str, int]:
    [[_, account, amount, _]] = json.loads(postings)
    mix = str(account).removeprefix("mix:")
    if mix_account(mix) != account:
        raise JournalFault(f"a deposit of the mixer to {account}")
    return mix, int(amount)
