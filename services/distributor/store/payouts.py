"""Payouts and their intents."""

from datetime import timedelta
from typing import Final

import asyncpg
from typing_extensions import override

from services.distributor.core.payouts import PAYOUT_LIFECYCLE, Payout, PayoutState
from shared.mixer.jobcoin_rows import Address, Transfer
from shared.mixer.store import IntentStore

# Start-time fair queueing: a due payout gets a turn after the last one of its mix, and no earlier than the lowest turn
# that anybody has. So between two payouts of one mix, each other mix is served at most once.
ENQUEUE = """
WITH due AS (
    SELECT id, mix_id, next_at FROM payouts.payouts
     WHERE turn IS NULL AND state NOT IN ('paid', 'stuck', 'resolved', 'cancelled') AND next_at <= clock_timestamp()
     ORDER BY next_at LIMIT $1 FOR UPDATE SKIP LOCKED),
first AS (SELECT coalesce((SELECT turn FROM payouts.payouts WHERE turn IS NOT NULL ORDER BY turn LIMIT 1), 0) AS turn),
last AS (
    SELECT mix_id, (SELECT turn FROM payouts.payouts p WHERE p.mix_id = d.mix_id AND turn IS NOT NULL
                     ORDER BY turn DESC LIMIT 1) AS turn
      FROM (SELECT DISTINCT mix_id FROM due) d),
turns AS (
    SELECT due.id, greatest(first.turn, last.turn + 1)
                   + row_number() OVER (PARTITION BY mix_id ORDER BY next_at, due.id) - 1 AS turn
      FROM due JOIN last USING (mix_id) CROSS JOIN first)
UPDATE payouts.payouts p SET turn = turns.turn FROM turns WHERE p.id = turns.id RETURNING p.id
"""
CLAIM_IN_TURN = """
WITH due AS (
    SELECT id FROM payouts.payouts WHERE turn IS NOT NULL AND claimed_until <= clock_timestamp()
     ORDER BY turn LIMIT $1 FOR UPDATE SKIP LOCKED)
UPDATE payouts.payouts AS claimed SET claim = claimed.claim + 1, claimed_until = clock_timestamp() + $2
  FROM due WHERE claimed.id = due.id RETURNING claimed.*
"""
ENQUEUED_MAX: Final = 500
# A late funding arrives at an address that no payout uses any more. Each is looked for again after as long as was
# waited before, at last once a day, and never given up. Until `look_at`, no other copy looks for it.
TAKE_ABSENT_FUNDINGS = """
WITH due AS (
    SELECT id FROM payouts.intents
     WHERE leg = 'fund' AND ended IN ('absent', 'refused', 'left') AND look_at <= clock_timestamp()
     ORDER BY look_at LIMIT $1 FOR UPDATE SKIP LOCKED)
UPDATE payouts.intents i
   SET look_at = clock_timestamp() + least(greatest(clock_timestamp() - opened_at, $2), interval '1 day')
  FROM due WHERE i.id = due.id RETURNING i.id, i.source, i.destination, i.amount_units
"""
LOOK_SOON = "UPDATE payouts.intents SET look_at = clock_timestamp() + $2 WHERE id = $1"
WRITE_RETURNED = """
UPDATE payouts.intents SET ended = 'returned', seen_occurrence = $2
 WHERE id = $1 AND ended IN ('absent', 'refused', 'left')
"""
READ_OLDEST_DUE = """
SELECT coalesce((
    SELECT extract(epoch FROM clock_timestamp() - due_at) FROM payouts.payouts
     WHERE state NOT IN ('paid', 'resolved', 'cancelled') AND due_at <= clock_timestamp() ORDER BY due_at LIMIT 1), 0)
"""


class PayoutStore(IntentStore[Payout]):
    """Every method raises what is in postgres.TRANSIENT_FAULTS."""

    lifecycle = PAYOUT_LIFECYCLE
    table = "payouts.payouts"
    has_next_step = "state NOT IN ('paid', 'stuck', 'resolved', 'cancelled')"
    is_open = "state NOT IN ('paid', 'resolved', 'cancelled')"
    step_columns = (
        "hold_id = coalesce($7, hold_id), address = coalesce($8, address),"
        " paid_at = CASE WHEN $4 = 'sent' THEN clock_timestamp() ELSE paid_at END,"
        " turn = CASE WHEN $4 NOT IN ('paid', 'stuck', 'resolved', 'cancelled') THEN turn END"
    )
    release_columns = ", turn = NULL"
    intents = "payouts.intents"
    row_id = "payout_id"

    @override
    def read(self, record: asyncpg.Record) -> Payout:
        hold, address = record["hold_id"], record["address"]
        return Payout(
            id=str(record["id"]),
            mix=str(record["mix_id"]),
            destination=Address(record["destination"]),
            amount=int(record["amount"]),
            state=PayoutState(record["state"]),
            hold=None if hold is None else str(hold),
            address=None if address is None else Address(address),
            attempts=int(record["attempts"]),
            hold_attempt=int(record["hold_attempt"]),
            capture_attempt=int(record["capture_attempt"]),
            claim=int(record["claim"]),
        )

    @override
    def step_values(self, row: Payout) -> tuple[object, ...]:
        return (row.hold, row.address)

    @override
    async def taken_rows(self, transfer: Transfer) -> set[int]:
        return set()  # a one-shot address has no two equal transfers

    @override
    async def claim(self, rows_max: int, claim_s: float) -> list[Payout]:
        while len(await self._pool.fetch(ENQUEUE, ENQUEUED_MAX)) == ENQUEUED_MAX:
            pass
        records = await self._pool.fetch(CLAIM_IN_TURN, rows_max, timedelta(seconds=claim_s))
        return [self.read(record) for record in records]

    async def take_absent_fundings(self, intents_max: int, wait_s_min: float) -> list[tuple[str, Transfer]]:
        """Fundings that were taken for absent and are to be looked for now, with the ids of their intents.

        None of them is taken again within `wait_s_min`.
        """
        rows = await self._pool.fetch(TAKE_ABSENT_FUNDINGS, intents_max, timedelta(seconds=wait_s_min))
        return [
            (str(row["id"]), Transfer(Address(row["source"]), Address(row["destination"]), int(row["amount_units"])))
            for row in rows
        ]

    async def look_soon(self, intent_id: str, wait_s: float) -> None:
        """The funding is looked for again after `wait_s`."""
        await self._pool.execute(LOOK_SOON, intent_id, timedelta(seconds=wait_s))

    async def write_returned(self, intent_id: str, listed: int) -> None:
        """The funding was applied after all, and its coins are back at the house."""
        await self._pool.execute(WRITE_RETURNED, intent_id, listed)

    async def oldest_due_s(self) -> float:
        """For how many seconds the oldest unpaid payout has been due; 0 if none is."""
        return float(await self._pool.fetchval(READ_OLDEST_DUE))
