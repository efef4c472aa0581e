"""The poller's SQL for sweeps and their intents."""

from dataclasses import replace

import asyncpg
from typing_extensions import override

from services.deposit_poller.core.sweeps import SWEEP_LIFECYCLE, Sweep, SweepState, credit_of
from shared.mixer.jobcoin_rows import Address, Transfer
from shared.mixer.store import IntentStore, PooledConnection

READ_TAKEN_ROWS = """
SELECT seen_occurrence FROM mixer.sweep_intents
 WHERE source = $1 AND destination = $2 AND amount_units = $3 AND seen_occurrence IS NOT NULL
"""
READ_DISPUTED = "SELECT disputed_at IS NOT NULL FROM mixer.mixes WHERE id = $1"
READ_SWEPT_UNITS = (
    "SELECT coalesce(sum(amount_units), 0) FROM mixer.sweeps WHERE mix_id = $1 AND credit_minor IS NOT NULL"
)
LOCK_REST = "SELECT rest_units FROM mixer.mixes WHERE id = $1 FOR UPDATE"
WRITE_REST = "UPDATE mixer.mixes SET rest_units = $2 WHERE id = $1"


class SweepStore(IntentStore[Sweep]):
    """Every method raises what is in postgres.TRANSIENT_FAULTS."""

    lifecycle = SWEEP_LIFECYCLE
    table = "mixer.sweeps"
    has_next_step = "state IN ('planned', 'sending', 'seen')"
    is_open = "state NOT IN ('credited', 'cancelled')"
    step_columns = "credit_minor = coalesce($7, credit_minor), credit_operation_id = coalesce($8, credit_operation_id)"
    claimed_columns = "claimed.*, (SELECT deposit_address FROM mixer.mixes m WHERE m.id = claimed.mix_id)"
    intents = "mixer.sweep_intents"
    row_id = "sweep_id"

    @override
    def read(self, record: asyncpg.Record) -> Sweep:
        credit = record["credit_minor"]
        return Sweep(
            id=str(record["id"]),
            mix=str(record["mix_id"]),
            address=Address(record["deposit_address"]),
            units=int(record["amount_units"]),
            state=SweepState(record["state"]),
            attempts=int(record["attempts"]),
            credit_attempt=int(record["credit_attempt"]),
            credit=None if credit is None else int(credit),
            claim=int(record["claim"]),
        )

    @override
    def step_values(self, row: Sweep) -> tuple[object, ...]:
        return row.credit, row.credit_operation

    @override
    async def taken_rows(self, transfer: Transfer) -> set[int]:
        content = (transfer.source, transfer.destination, transfer.units)
        return {int(row["seen_occurrence"]) for row in await self._pool.fetch(READ_TAKEN_ROWS, *content)}

    @override
    async def at_end(self, connection: PooledConnection, after: Sweep) -> Sweep:
        """A sweep that was seen is worth its units and the rest that the sweeps before it left."""
        if after.state is not SweepState.SEEN:
            return after
        credit, rest = credit_of(int(await connection.fetchval(LOCK_REST, after.mix)), after.units)
        await connection.execute(WRITE_REST, after.mix, rest)
        return replace(after, credit=credit)

    async def is_disputed(self, sweep: Sweep) -> bool:
        """True while the network's list lacks transactions of the sweep's address."""
        return bool(await self._pool.fetchval(READ_DISPUTED, sweep.mix))

    async def swept_units(self, sweep: Sweep) -> int:
        """What sweeps of the same address have brought so far."""
        return int(await self._pool.fetchval(READ_SWEPT_UNITS, sweep.mix))
