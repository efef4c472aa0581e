"""Deposits, their sweeps, and the cursor over the network's list."""

from collections.abc import Collection, Sequence
from typing import Final

import asyncpg
from typing_extensions import override

from services.deposit_poller.core.deposits import DEPOSIT_LIFECYCLE, Deposit, DepositState
from services.deposit_poller.core.listing import ListedDeposit, ListPrefix
from shared.database import postgres
from shared.mixer.jobcoin_rows import Address, ListedRow, RowId, Transfer, split_units
from shared.mixer.store import ClaimTable, IntentStore

DEPOSITS: Final = ClaimTable(
    "mixer.deposits",
    has_next_step="state IN ('seen', 'sweeping', 'swept')",
    step_columns="credit_operation_id = coalesce($7, credit_operation_id)",
    intents="mixer.sweeps",
    row_id="deposit_id",
)

READ_TAKEN_ROWS = "SELECT seen_row FROM mixer.sweeps WHERE source = $1 AND seen_row IS NOT NULL"
READ_CURSOR = "SELECT position, prefix_hash FROM mixer.list_cursors WHERE instance = $1"
WRITE_CURSOR = """
INSERT INTO mixer.list_cursors (instance, position, prefix_hash) VALUES ($1, $2, $3)
ON CONFLICT (instance) DO UPDATE SET position = $2, prefix_hash = $3, read_at = clock_timestamp()
"""
READ_KNOWN = "SELECT id FROM mixer.deposits WHERE id = ANY($1::uuid[])"
WRITE_DEPOSIT = """
INSERT INTO mixer.deposits (id, mix_id, instance, listed_at, occurred_at, sender, address, occurrence,
                            amount_units, amount_minor, rest_units)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING
"""


class DepositStore(IntentStore[Deposit]):
    """Every method raises what is in postgres.TRANSIENT_FAULTS."""

    def __init__(self, pool: postgres.Pool, instance: str) -> None:
        super().__init__(pool, DEPOSIT_LIFECYCLE, DEPOSITS)
        self._instance = instance

    @override
    def read(self, record: asyncpg.Record) -> Deposit:
        listed = ListedRow(
            record["listed_at"], Address(record["sender"]), Address(record["address"]), int(record["amount_units"])
        )
        return Deposit(
            id=str(record["id"]), mix=str(record["mix_id"]), listed=listed,
            minor=int(record["amount_minor"]), state=DepositState(record["state"]), attempts=int(record["attempts"]),
            credit_attempt=int(record["credit_attempt"]), claim=int(record["claim"]),
        )  # fmt: skip

    @override
    def step_values(self, row: Deposit) -> tuple[object, ...]:
        return (row.credit_operation,)

    @override
    async def taken_rows(self, transfer: Transfer) -> set[str]:
        return {str(row["seen_row"]) for row in await self._pool.fetch(READ_TAKEN_ROWS, transfer.source)}

    async def cursor(self) -> tuple[int, bytes]:
        """How many rows of the list need not be read again, and their hash."""
        row = await self._pool.fetchrow(READ_CURSOR, self._instance)
        return (0, ListPrefix().hash) if row is None else (int(row["position"]), bytes(row["prefix_hash"]))

    async def known(self, wanted: Collection[RowId]) -> set[str]:
        """Those that are recorded."""
        rows = await self._pool.fetch(READ_KNOWN, list(wanted)) if wanted else []
        return {str(row["id"]) for row in rows}

    async def record(self, confirmed: Sequence[ListedDeposit], prefix: ListPrefix) -> None:
        """Commits deposits and cursor together, so that whatever lies before the cursor is recorded."""
        async with self._pool.acquire() as connection, connection.transaction():
            for deposit in confirmed:
                row, (minor, rest) = deposit.row, split_units(deposit.row.units)
                await connection.execute(
                    WRITE_DEPOSIT, deposit.id, deposit.mix, self._instance, row.timestamp, row.occurred_at,
                    storable(row.source), row.destination, deposit.occurrence, row.units, minor, rest,
                )  # fmt: skip
            await connection.execute(WRITE_CURSOR, self._instance, prefix.position, prefix.hash)


def storable(address: str) -> str:
    """The address as PostgreSQL can keep it: with escapes for what does not print (NUL, lone surrogates)."""
    if address.isprintable() and "\\" not in address:
        return address
    return address.encode("unicode_escape").decode("ascii")
