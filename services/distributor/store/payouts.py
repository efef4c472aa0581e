"""Payouts and their intents."""

from typing import Final

import asyncpg
from typing_extensions import override

from services.distributor.core.payouts import PAYOUT_LIFECYCLE, Payout, PayoutState
from shared.database import postgres
from shared.mixer.jobcoin_rows import Address, RowId, Transfer
from shared.mixer.store import ClaimTable, IntentStore

PAYOUTS: Final = ClaimTable(
    "payouts.payouts",
    has_next_step="state NOT IN ('paid', 'stuck')",
    step_columns="hold_id = coalesce($7, hold_id), address = coalesce($8, address),"
    " paid_at = CASE WHEN $4 = 'sent' THEN clock_timestamp() ELSE paid_at END",
    intents="payouts.intents",
    row_id="payout_id",
)

# A late funding arrives at an address that no payout uses any more; a day is far longer than any delay.
READ_ABSENT_FUNDINGS = """
SELECT id, source, destination, amount_units FROM payouts.intents
 WHERE leg = 'fund' AND ended IN ('absent', 'refused') AND opened_at > clock_timestamp() - interval '1 day'
 ORDER BY opened_at DESC LIMIT $1
"""
WRITE_RETURNED = """
UPDATE payouts.intents SET ended = 'returned', seen_row = $2 WHERE id = $1 AND ended IN ('absent', 'refused')
"""
READ_OLDEST_DUE = """
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(due_at)), 0) FROM payouts.payouts
 WHERE state NOT IN ('paid', 'stuck') AND due_at <= clock_timestamp()
"""


class PayoutStore(IntentStore[Payout]):
    """Every method raises what is in postgres.TRANSIENT_FAULTS."""

    def __init__(self, pool: postgres.Pool) -> None:
        super().__init__(pool, PAYOUT_LIFECYCLE, PAYOUTS)

    @override
    def read(self, record: asyncpg.Record) -> Payout:
        hold, address = record["hold_id"], record["address"]
        return Payout(
            id=str(record["id"]), mix=str(record["mix_id"]), destination=Address(record["destination"]),
            amount=int(record["amount"]), state=PayoutState(record["state"]), hold=None if hold is None else str(hold),
            address=None if address is None else Address(address), attempts=int(record["attempts"]),
            hold_attempt=int(record["hold_attempt"]), capture_attempt=int(record["capture_attempt"]),
            claim=int(record["claim"]),
        )  # fmt: skip

    @override
    def step_values(self, row: Payout) -> tuple[object, ...]:
        return (row.hold, row.address)

    @override
    async def taken_rows(self, transfer: Transfer) -> set[str]:
        return set()  # a one-shot address has no two equal transfers

    async def absent_fundings(self, intents_max: int) -> list[tuple[str, Transfer]]:
        """Fundings of the last day that were taken for absent, newest first, with the ids of their intents."""
        rows = await self._pool.fetch(READ_ABSENT_FUNDINGS, intents_max)
        return [
            (str(row["id"]), Transfer(Address(row["source"]), Address(row["destination"]), int(row["amount_units"])))
            for row in rows
        ]

    async def write_returned(self, intent_id: str, listed: RowId) -> None:
        """The funding was applied after all, and its coins are back at the house."""
        await self._pool.execute(WRITE_RETURNED, intent_id, listed)

    async def oldest_due_s(self) -> float:
        """For how many seconds the oldest unpaid payout has been due; 0 if none is."""
        return float(await self._pool.fetchval(READ_OLDEST_DUE))
