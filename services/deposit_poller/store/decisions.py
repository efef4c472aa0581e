"""Operators' decisions about deposits: found in the journal by a cursor, and carried out."""

from collections.abc import Mapping, Sequence

import structlog

from services.deposit_poller.core.decisions import SweepDecision, sweep_state_after
from services.deposit_poller.core.sweeps import SWEEP_LIFECYCLE, SweepState
from shared.database import postgres
from shared.domain.ids import UUID_TEXT, Partition
from shared.mixer.store import PooledConnection, batches_of, last_batches
from shared.mixer.sweep_decisions import SWEEP_REFERENCE_PREFIX, SWEEP_VERB_OF, sweep_standing

log = structlog.get_logger()

READ_CURSORS = "SELECT partition, batch FROM mixer.journal_cursors"
WRITE_JOURNAL_CURSOR = """
INSERT INTO mixer.journal_cursors (partition, batch) VALUES ($1, $2)
ON CONFLICT (partition) DO UPDATE SET batch = greatest(mixer.journal_cursors.batch, $2)
"""
READ_DECISIONS = """
SELECT id, kind, reference FROM ledger.operations
 WHERE kind IN ('deposit.retry.v1', 'deposit.resolve.v1') AND outcome = 'posted'
   AND partition = $1 AND batch > $2 AND batch <= $3 ORDER BY batch, line
"""
# A decision is carried out in the transaction that writes it down, so once.
LOCK_SWEEP = "SELECT state, stuck_in, reason FROM mixer.sweeps WHERE id = $1 FOR UPDATE"
WRITE_DECISION = """
INSERT INTO mixer.decisions (id, sweep_id, verb, is_applied) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING id
"""
# The claim is taken from whoever has it: what he does from then on has no effect here.
APPLY_DECISION = """
UPDATE mixer.sweeps SET state = $2, stuck_in = NULL, reason = NULL, attempts = 0, next_at = clock_timestamp(),
       claim = claim + 1, claimed_until = '-infinity'
 WHERE id = $1
"""
# As above for one that is not stuck, unless somebody works on it: it is being tried then.
HASTEN = "UPDATE mixer.sweeps SET next_at = clock_timestamp() WHERE id = $1 AND claimed_until <= clock_timestamp()"


class SweepDecisionStore:
    """What a JournalReader of decisions about sweeps needs."""

    def __init__(self, pool: postgres.Pool) -> None:
        self._pool = pool

    async def cursors(self) -> dict[Partition, int]:
        """The last batch that was read of each partition. A partition of which none was read is missing."""
        return batches_of(await self._pool.fetch(READ_CURSORS))

    async def last_batches(self) -> dict[Partition, int]:
        """The last batch of each partition in the journal."""
        return await last_batches(self._pool)

    async def found_between(self, partition: Partition, after: int, until: int) -> Sequence[SweepDecision]:
        """The decisions about sweeps in the batches after `after`, up to `until`."""
        return [
            SweepDecision(
                str(row["id"]), str(row["reference"]).removeprefix(SWEEP_REFERENCE_PREFIX), SWEEP_VERB_OF[row["kind"]]
            )
            for row in await self._pool.fetch(READ_DECISIONS, partition, after, until)
        ]

    async def record(self, found: Sequence[SweepDecision], cursors: Mapping[Partition, int]) -> None:
        """Commits decisions and cursors together. What is recorded already stays as it is."""
        async with self._pool.acquire() as connection, connection.transaction():
            for decision in found:
                await _carry_out(connection, decision)
            for partition, batch in sorted(cursors.items()):
                await connection.execute(WRITE_JOURNAL_CURSOR, partition, batch)


async def _carry_out(connection: PooledConnection, decision: SweepDecision) -> None:
    """Applies the decision to its sweep, unless that was done before or the sweep has gone on meanwhile."""
    row = await connection.fetchrow(LOCK_SWEEP, decision.sweep) if UUID_TEXT.fullmatch(decision.sweep) else None
    if row is None:
        log.error("decision.about_nothing", operation_id=decision.operation, sweep_id=decision.sweep)
        return
    after = sweep_state_after(decision.verb, sweep_standing(row["state"], row["stuck_in"], row["reason"]))
    values = (decision.operation, decision.sweep, decision.verb, after is not None)
    if await connection.fetchval(WRITE_DECISION, *values) is None:
        return
    log.info(
        "decision.taken", operation_id=decision.operation, sweep_id=decision.sweep, verb=decision.verb, after=after
    )
    before = SweepState(row["state"])
    if after is before:
        await connection.execute(HASTEN, decision.sweep)
    elif after is not None:
        SWEEP_LIFECYCLE.check(before, after)
        await connection.execute(APPLY_DECISION, decision.sweep, after)
