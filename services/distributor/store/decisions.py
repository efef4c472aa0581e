"""Operators' decisions about payouts: found in the journal, and carried out."""

import asyncpg
import structlog

from services.distributor.core.decisions import PayoutDecision, state_after
from services.distributor.core.payouts import PAYOUT_LIFECYCLE, PayoutState
from shared.domain.ids import UUID_TEXT
from shared.mixer.payout_decisions import REFERENCE_PREFIX, VERB_OF, standing_of
from shared.mixer.store import PooledConnection

log = structlog.get_logger()

READ_DECISIONS = """
SELECT id, kind, reference FROM ledger.operations
 WHERE kind IN ('payout.retry.v1', 'payout.resolve.v1', 'payout.cancel.v1') AND outcome = 'posted'
   AND partition = $1 AND batch > $2 AND batch <= $3 ORDER BY batch, line
"""
# A decision is carried out in the transaction that writes it down, so once.
LOCK_PAYOUT = "SELECT state, stuck_in, reason FROM payouts.payouts WHERE id = $1 FOR UPDATE"
WRITE_DECISION = """
INSERT INTO payouts.decisions (id, payout_id, verb, is_applied) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING RETURNING id
"""
# The claim is taken from whoever has it: what he does from then on has no effect here.
APPLY_DECISION = """
UPDATE payouts.payouts SET state = $2, stuck_in = NULL, reason = NULL, attempts = 0, next_at = clock_timestamp(),
       turn = NULL, claim = claim + 1, claimed_until = '-infinity'
 WHERE id = $1
"""
# As above for one that is not stuck, unless somebody works on it: it is being tried then.
HASTEN = """
UPDATE payouts.payouts SET next_at = clock_timestamp() WHERE id = $1 AND claimed_until <= clock_timestamp()
"""
LEAVE_FUNDING = """
UPDATE payouts.intents SET ended = 'left', look_at = clock_timestamp()
 WHERE payout_id = $1 AND leg = 'fund' AND ended = 'seen'
"""


def found_decision(row: asyncpg.Record) -> PayoutDecision:
    """The decision of a row of READ_DECISIONS."""
    return PayoutDecision(str(row["id"]), str(row["reference"]).removeprefix(REFERENCE_PREFIX), VERB_OF[row["kind"]])


async def carry_out(connection: PooledConnection, decision: PayoutDecision) -> None:
    """Applies the decision to its payout, unless that was done before or the payout has gone on meanwhile."""
    row = await connection.fetchrow(LOCK_PAYOUT, decision.payout) if UUID_TEXT.fullmatch(decision.payout) else None
    if row is None:
        log.error("decision.about_nothing", operation_id=decision.operation, payout_id=decision.payout)
        return
    after = state_after(decision.verb, standing_of(row["state"], row["stuck_in"], row["reason"]))
    written = await connection.fetchval(
        WRITE_DECISION, decision.operation, decision.payout, decision.verb, after is not None
    )
    if written is None:
        return
    log.info(
        "decision.taken", operation_id=decision.operation, payout_id=decision.payout, verb=decision.verb, after=after
    )
    if after is None:
        return
    before = PayoutState(row["state"])
    if before is after:
        await connection.execute(HASTEN, decision.payout)
        return
    PAYOUT_LIFECYCLE.check(before, after)
    await connection.execute(APPLY_DECISION, decision.payout, after)
    if after is PayoutState.RESOLVING and PayoutState(row["stuck_in"] or before) is not PayoutState.SENT:
        await connection.execute(LEAVE_FUNDING, decision.payout)
