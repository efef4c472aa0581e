"""Credits of mixes: found in the journal, and planned into payouts."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta

import asyncpg
from typing_extensions import override

from services.distributor.core.credits import CREDIT_LIFECYCLE, CreditState, Increment, MixCredit, MixTerms
from services.distributor.core.decisions import PayoutDecision
from services.distributor.store.decisions import READ_DECISIONS, carry_out, found_decision
from shared.domain.ids import Partition
from shared.domain.lifecycle import InvariantBroken
from shared.domain.values import value
from shared.mixer.ledger import mix_account
from shared.mixer.store import ClaimStore, batches_of, last_batches
from shared.runtime.fault_points import FaultPoint, fault_point

READ_CURSORS = "SELECT partition, batch FROM payouts.cursors"
# A partition's batches are committed in order: once a batch is there, all before it are, and none of them changes.
READ_CREDITS = """
SELECT id, postings FROM ledger.operations
 WHERE principal = 'tellerline:mixer' AND kind = 'deposit.v1' AND outcome = 'posted'
   AND partition = $1 AND batch > $2 AND batch <= $3 ORDER BY batch, line
"""
WRITE_CREDIT = "INSERT INTO payouts.credits (id, mix_id, amount) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
WRITE_CURSOR = """
INSERT INTO payouts.cursors (partition, batch) VALUES ($1, $2)
ON CONFLICT (partition) DO UPDATE SET batch = greatest(payouts.cursors.batch, $2)
"""
READ_TERMS = "SELECT destinations, fee_ppm, delay_ms_min, delay_ms_max FROM mixer.mixes WHERE id = $1"
WRITE_PAYOUT = """
INSERT INTO payouts.payouts (id, credit_id, mix_id, number, destination, amount, due_at, next_at)
VALUES (gen_random_uuid(), $1, $2, $3, $4, $5, clock_timestamp() + $6, clock_timestamp() + $6)
"""


@value
class FoundCredit:
    """A credit in the journal. `amount` is minor units of JOB."""

    operation: str
    mix: str
    amount: int


class CreditStore(ClaimStore[MixCredit]):
    """Every method raises what is in postgres.TRANSIENT_FAULTS."""

    lifecycle = CREDIT_LIFECYCLE
    table = "payouts.credits"
    has_next_step = "state = 'new'"
    is_open = "state <> 'planned'"
    step_columns = "fee = coalesce($7, fee)"

    @override
    def read(self, record: asyncpg.Record) -> MixCredit:
        return MixCredit(
            id=str(record["id"]),
            mix=str(record["mix_id"]),
            amount=int(record["amount"]),
            state=CreditState(record["state"]),
            attempts=int(record["attempts"]),
            claim=int(record["claim"]),
            fee_attempt=int(record["fee_attempt"]),
            seed=str(record["seed"]),
        )

    @override
    def step_values(self, row: MixCredit) -> tuple[object, ...]:
        return (row.fee,)

    async def cursors(self) -> dict[Partition, int]:
        """The last batch that was read of each partition. A partition of which none was read is missing."""
        return batches_of(await self._pool.fetch(READ_CURSORS))

    async def last_batches(self) -> dict[Partition, int]:
        """The last batch of each partition in the journal."""
        return await last_batches(self._pool)

    async def found_between(
        self, partition: Partition, after: int, until: int
    ) -> Sequence[FoundCredit | PayoutDecision]:
        """Credits of mixes, and decisions about payouts, in the batches after `after`, up to `until`."""
        credits = await self._pool.fetch(READ_CREDITS, partition, after, until)
        decisions = await self._pool.fetch(READ_DECISIONS, partition, after, until)
        return [*map(_found_credit, credits), *map(found_decision, decisions)]

    async def record(self, found: Sequence[FoundCredit | PayoutDecision], cursors: Mapping[Partition, int]) -> None:
        """Commits credits, decisions and cursors together. What is recorded already stays as it is."""
        async with self._pool.acquire() as connection, connection.transaction():
            for each in found:
                if isinstance(each, FoundCredit):
                    await connection.execute(WRITE_CREDIT, each.operation, each.mix, each.amount)
                else:
                    await carry_out(connection, each)
            for partition, batch in sorted(cursors.items()):
                await connection.execute(WRITE_CURSOR, partition, batch)

    async def terms(self, credit: MixCredit) -> MixTerms:
        """What the credit's mix asks for."""
        row = await self._pool.fetchrow(READ_TERMS, credit.mix)
        if row is None:
            raise InvariantBroken(f"credit {credit.id} has no mix")
        return MixTerms(
            tuple(row["destinations"]), int(row["fee_ppm"]), int(row["delay_ms_min"]), int(row["delay_ms_max"])
        )

    async def write_plan(self, credit: MixCredit, planned: MixCredit, increments: Sequence[Increment]) -> None:
        """Commits the whole plan. The database refuses it unless fee and increments add up to the credit."""
        async with self._pool.acquire() as connection, connection.transaction():
            for number, increment in enumerate(increments, start=1):
                await connection.execute(
                    WRITE_PAYOUT,
                    credit.id,
                    credit.mix,
                    number,
                    increment.destination,
                    increment.amount,
                    timedelta(milliseconds=increment.delay_ms),
                )
                fault_point(FaultPoint.DISTRIBUTOR_IN_PLAN)
            await self.move_within(connection, credit, planned)


def _found_credit(row: asyncpg.Record) -> FoundCredit:
    [[_, account, amount, _]] = json.loads(row["postings"])
    mix = str(account).removeprefix("mix:")
    if mix_account(mix) != account:
        raise InvariantBroken(f"the mixer has posted a deposit to {account}")
    return FoundCredit(str(row["id"]), mix, int(amount))
