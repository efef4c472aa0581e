"""Rows of the mixer as its services would have left them, for tests that need many, or odd ones."""

import uuid
from collections.abc import Sequence

from shared.database import postgres

JOB = 10**18

MIX_ORDER = """
INSERT INTO ledger.operations (id, partition, batch, line, kind, principal, fingerprint, outcome)
SELECT $1, 0, 1, coalesce(max(line), 0) + 1, 'mix.create.v1', $2, $3, 'posted' FROM ledger.operations
"""
MIX = """
INSERT INTO mixer.mixes (id, operation_id, fingerprint, owner, deposit_address, destinations, fee_ppm, delay_ms_min,
                         delay_ms_max)
VALUES ($1, $2, $4, $3, $5, '{anna}', 0, 0, 0)
"""
CREDIT = """
INSERT INTO payouts.credits (id, mix_id, amount, fee, state) VALUES ($1, $2, $3, 0, 'planned')
"""
PAYOUTS = """
INSERT INTO payouts.payouts (id, credit_id, mix_id, number, destination, amount, due_at, next_at)
SELECT gen_random_uuid(), $1, $2, n, 'anna', $3, due_at, due_at
  FROM generate_series(1, $4::int) n
 CROSS JOIN LATERAL (SELECT now() - $5 * interval '1 second' + n * interval '1 microsecond' AS due_at) d
"""


class MixerRows:
    """Writes them as the owner of the database, without the checks that look at other tables."""

    def __init__(self, connection: postgres.Connection) -> None:
        self._connection = connection

    async def mix(self, owner: str = "somebody") -> str:
        """A mix whose order the journal has as posted; its id."""
        mix, order = str(uuid.uuid4()), str(uuid.uuid4())
        await self._run(MIX_ORDER, order, owner, bytes(16))
        await self._run(MIX, mix, order, owner, bytes(16), mix.replace("-", ""))
        return mix

    async def payouts(self, mix: str, count: int, *, due_s: float = 1.0, amount: int = JOB) -> Sequence[str]:
        """A planned credit whose payouts have been due for `due_s`; their ids in the order in which they are due."""
        credit = str(uuid.uuid4())
        await self._run(CREDIT, credit, mix, amount * count)
        await self._run(PAYOUTS, credit, mix, amount, count, due_s)
        rows = await self._connection.fetch(
            "SELECT id FROM payouts.payouts WHERE credit_id = $1 ORDER BY due_at", credit
        )
        return [str(row["id"]) for row in rows]

    async def _run(self, statement: str, *arguments: object) -> None:
        async with self._connection.transaction():
            await self._connection.execute("SET LOCAL session_replication_role = 'replica'")
            await self._connection.execute(statement, *arguments)
