"""Sweeps of deposits as an operator sees them, and what became of the decisions about them."""

from datetime import datetime
from typing import Final, TypeAlias

from services.gateway.store.database import Database, fields
from shared.domain.values import value
from shared.mixer.sweep_decisions import SweepStanding, sweep_standing

# As mixer.sweeps.attention counts them: what waits for an operator comes first.
SWEEP_STATUSES: Final = ("stuck", "waiting", "sweeping", "resolved", "credited")


@value
class OperatedSweep:
    """The deposits of one address that one sweep collects. `amount_units` are 10^-40 of a coin.

    `planned_at_us`: microseconds since 1970 UTC; `reason`: why it waits or is stuck; `verb`: the last decision's, None
    without one, and `is_applied` False if it came too late.
    """

    id: str
    mix: str
    address: str
    amount_units: int
    planned_at_us: int
    attention: int
    state: str
    stuck_in: str | None
    reason: str | None
    attempts: int
    operation: str | None
    verb: str | None
    is_applied: bool | None

    @property
    def status(self) -> str:
        """As clients see it."""
        return SWEEP_STATUSES[self.attention]

    @property
    def standing(self) -> SweepStanding:
        """By which it is told what may be decided."""
        return sweep_standing(self.state, self.stuck_in, self.reason)


# Attention, planned_at and id: the place of a sweep in the list.
SweepPlace: TypeAlias = tuple[int, datetime, str]
_COLUMNS: Final = """
SELECT s.id::text AS id, s.mix_id::text AS mix, m.deposit_address AS address, s.amount_units,
       ledger.us(s.planned_at) AS planned_at_us, s.attention, s.state, s.stuck_in, s.reason, s.attempts,
       d.id::text AS operation, d.verb, d.is_applied
  FROM mixer.sweeps s JOIN mixer.mixes m ON m.id = s.mix_id LEFT JOIN LATERAL (
       SELECT id, verb, is_applied FROM mixer.decisions WHERE sweep_id = s.id ORDER BY taken_at DESC LIMIT 1) d ON true
"""
LIST_OPERATED_SWEEPS = f"""{_COLUMNS}
 WHERE (s.attention, s.planned_at, s.id) > ($1::smallint, $2, $3::text::uuid) AND s.attention <= $4
 ORDER BY s.attention, s.planned_at, s.id LIMIT $5
"""
READ_OPERATED_SWEEP = f"{_COLUMNS} WHERE s.id = $1::text::uuid"
READ_SWEEP_DECISION = "SELECT is_applied FROM mixer.decisions WHERE id = $1::text::uuid"


async def list_operated_sweeps(
    database: Database, after: SweepPlace, attention_max: int, limit: int
) -> list[OperatedSweep]:
    """Sweeps after this place, up to this attention. Raises DatabaseUnavailable."""
    rows = await database.rows(LIST_OPERATED_SWEEPS, *after, attention_max, limit)
    return [OperatedSweep(**fields(row)) for row in rows]


async def read_operated_sweep(database: Database, sweep: str) -> OperatedSweep | None:
    """One sweep. `sweep` is the text of a UUID. Raises DatabaseUnavailable."""
    row = await database.row(READ_OPERATED_SWEEP, sweep)
    return None if row is None else OperatedSweep(**fields(row))


async def read_sweep_decision(database: Database, operation: str) -> bool | None:
    """Whether the decision was applied, or came too late; None while the poller has not taken it up."""
    row = await database.row(READ_SWEEP_DECISION, operation)
    return None if row is None else bool(row["is_applied"])
