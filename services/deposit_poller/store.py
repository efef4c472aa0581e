"""The poller's SQL: what orders for mixes ask for; deposits, their sweeps, and the cursor over the network's list."""

import re
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

import asyncpg
from typing_extensions import override

from services.deposit_poller.core.deposits import DEPOSIT_LIFECYCLE, Deposit, DepositState, ListedDeposit, ListPrefix
from shared.database import postgres
from shared.messages import MixCreate
from shared.messages.mixer import deposit_address, mix_id
from shared.mixer.jobcoin_rows import UNITS_PER_MINOR, Address, ListedRow, RowId, Transfer
from shared.mixer.store import IntentStore

# As shared.messages.mixer makes them. The network's list has addresses that no PostgreSQL text can hold.
DEPOSIT_ADDRESS: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)

# Written before the ledger decides, so that no coin can arrive at an address that nobody watches. The mix exists once
# the journal has its order as posted (mixer.mix_heads); until then, nobody is told of its address.
WRITE_ORDER = """
INSERT INTO mixer.mixes (id, operation_id, fingerprint, owner, deposit_address, destinations, fee_ppm, delay_ms_min,
                         delay_ms_max)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING
"""
READ_ORDER = "SELECT fingerprint FROM mixer.mixes WHERE id = $1"
READ_OUR_ADDRESSES = "SELECT deposit_address, id FROM mixer.mixes WHERE deposit_address = ANY($1)"
# A mix without a deposit counts for an hour; after that its deposit is found a little later.
READ_IS_OPEN = """
SELECT EXISTS (SELECT FROM mixer.deposits WHERE state IN ('seen', 'sweeping', 'swept'))
    OR EXISTS (SELECT FROM mixer.mixes m WHERE created_at > clock_timestamp() - interval '1 hour'
                  AND NOT EXISTS (SELECT FROM mixer.deposits WHERE mix_id = m.id))
"""

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


class MixStore:
    """Every method raises what is in postgres.TRANSIENT_FAULTS."""

    def __init__(self, pool: postgres.Pool) -> None:
        self._pool = pool

    async def write_order(self, order: MixCreate) -> str:
        """Keeps what the order asks for, if it is the first under its id. Returns the fingerprint of the first."""
        mix, content = mix_id(order.id), bytes.fromhex(order.fingerprint)
        await self._pool.execute(
            WRITE_ORDER,
            mix,
            order.id,
            content,
            order.principal,
            deposit_address(order.id),
            list(order.destinations),
            order.fee_ppm,
            order.delay_ms_min,
            order.delay_ms_max,
        )
        stored: bytes = await self._pool.fetchval(READ_ORDER, mix)
        return stored.hex()

    async def mixes_at(self, addresses: Collection[str]) -> dict[Address, str]:
        """Those of the addresses that are deposit addresses, with their mix."""
        likely = [address for address in addresses if DEPOSIT_ADDRESS.fullmatch(address)]
        rows = await self._pool.fetch(READ_OUR_ADDRESSES, likely) if likely else []
        return {Address(row["deposit_address"]): str(row["id"]) for row in rows}

    async def is_any_open(self) -> bool:
        """True while a deposit is expected or on its way to the ledger."""
        return bool(await self._pool.fetchval(READ_IS_OPEN))


class DepositStore(IntentStore[Deposit]):
    """Every method raises what is in postgres.TRANSIENT_FAULTS."""

    lifecycle = DEPOSIT_LIFECYCLE
    table = "mixer.deposits"
    has_next_step = "state IN ('seen', 'sweeping', 'swept')"
    is_open = "state <> 'credited'"
    step_columns = "credit_operation_id = coalesce($7, credit_operation_id)"
    intents = "mixer.sweeps"
    row_id = "deposit_id"

    def __init__(self, pool: postgres.Pool, instance: str) -> None:
        super().__init__(pool)
        self._instance = instance

    @override
    def read(self, record: asyncpg.Record) -> Deposit:
        listed = ListedRow(
            record["listed_at"], Address(record["sender"]), Address(record["address"]), int(record["amount_units"])
        )
        return Deposit(
            id=str(record["id"]),
            mix=str(record["mix_id"]),
            listed=listed,
            minor=int(record["amount_minor"]),
            state=DepositState(record["state"]),
            attempts=int(record["attempts"]),
            credit_attempt=int(record["credit_attempt"]),
            claim=int(record["claim"]),
        )

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
                row, (minor, rest) = deposit.row, divmod(deposit.row.units, UNITS_PER_MINOR)
                occurred_at = datetime.fromisoformat(row.timestamp)
                await connection.execute(
                    WRITE_DEPOSIT,
                    deposit.id,
                    deposit.mix,
                    self._instance,
                    row.timestamp,
                    occurred_at,
                    storable(row.source),
                    row.destination,
                    deposit.occurrence,
                    row.units,
                    minor,
                    rest,
                )
            await connection.execute(WRITE_CURSOR, self._instance, prefix.position, prefix.hash)


def storable(address: str) -> str:
    """The address as PostgreSQL can keep it: with escapes for what does not print (NUL, lone surrogates)."""
    if address.isprintable() and "\\" not in address:
        return address
    return address.encode("unicode_escape").decode("ascii")
