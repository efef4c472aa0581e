"""Payouts as an operator sees them, and what became of the decisions about them."""

from datetime import datetime
from typing import Final, TypeAlias

import asyncpg

from services.gateway.store.database import Database, fields
from shared.domain.values import value
from shared.mixer.payout_decisions import PayoutStanding, PayoutVerb, standing_of

# As payouts.payouts.attention counts them: what waits for an operator comes first.
STATUSES: Final = ("stuck", "waiting", "sending", "planned", "cancelled", "resolved", "paid")


@value
class DecisionFacts:
    """A decision about a payout. `operation`: the journal's; `is_applied` is False if it came too late."""

    operation: str
    verb: PayoutVerb
    is_applied: bool


@value
class OperatedPayout:
    """A payout. `amount` in minor units of JOB; `due_at_us` in microseconds since 1970 UTC.

    `reason`: why it waits or is stuck; `attempts`: how often its present step failed; `decision`: the last one.
    """

    id: str
    mix: str
    destination: str
    amount: int
    due_at_us: int
    attention: int
    state: str
    stuck_in: str | None
    reason: str | None
    attempts: int
    decision: DecisionFacts | None

    @property
    def status(self) -> str:
        """As clients see it."""
        return STATUSES[self.attention]

    @property
    def standing(self) -> PayoutStanding:
        """By which it is told what may be decided."""
        return standing_of(self.state, self.stuck_in, self.reason)


# Attention, due_at and id: the place of a payout in the list.
PayoutPlace: TypeAlias = tuple[int, datetime, str]


_COLUMNS: Final = """
SELECT p.id::text AS id, p.mix_id::text AS mix, p.destination, p.amount, ledger.us(p.due_at) AS due_at_us, p.attention,
       p.state, p.stuck_in, p.reason, p.attempts, d.id::text AS operation, d.verb, d.is_applied
  FROM payouts.payouts p LEFT JOIN LATERAL (
       SELECT id, verb, is_applied FROM payouts.decisions
        WHERE payout_id = p.id ORDER BY taken_at DESC LIMIT 1) d ON true
"""
LIST_OPERATED_PAYOUTS = f"""{_COLUMNS}
 WHERE (p.attention, p.due_at, p.id) > ($1::smallint, $2, $3::text::uuid) AND p.attention <= $4
 ORDER BY p.attention, p.due_at, p.id LIMIT $5
"""
READ_OPERATED_PAYOUT = f"{_COLUMNS} WHERE p.id = $1::text::uuid"
READ_PAYOUT_DECISION = "SELECT is_applied FROM payouts.decisions WHERE id = $1::text::uuid"


async def list_operated_payouts(
    database: Database, after: PayoutPlace, attention_max: int, limit: int
) -> list[OperatedPayout]:
    """Payouts after this place, up to this attention. Raises DatabaseUnavailable."""
    rows = await database.rows(LIST_OPERATED_PAYOUTS, *after, attention_max, limit)
    return [_operated(row) for row in rows]


async def read_operated_payout(database: Database, payout: str) -> OperatedPayout | None:
    """One payout. `payout` is the text of a UUID. Raises DatabaseUnavailable."""
    row = await database.row(READ_OPERATED_PAYOUT, payout)
    return None if row is None else _operated(row)


async def read_payout_decision(database: Database, operation: str) -> bool | None:
    """Whether the decision was applied, or came too late; None while the distributor has not taken it up."""
    row = await database.row(READ_PAYOUT_DECISION, operation)
    return None if row is None else bool(row["is_applied"])


def _operated(row: asyncpg.Record) -> OperatedPayout:
    columns = fields(row)
    operation, verb, is_applied = (columns.pop(name) for name in ("operation", "verb", "is_applied"))
    decision = None if operation is None else DecisionFacts(operation, verb, is_applied)
    return OperatedPayout(**columns, decision=decision)
