"""The poller's SQL for mixes: what orders ask for, and which addresses are ours."""

from collections.abc import Collection

from services.deposit_poller.core.deposits import DEPOSIT_ADDRESS
from shared.database import postgres
from shared.messages import MixCreate
from shared.messages.mixer import deposit_address, mix_id
from shared.mixer.jobcoin_rows import Address

# Written before the ledger decides, so that no coin can arrive at an address that nobody watches. The mix exists once
# the journal has its order as posted (mixer.mix_heads); until then, nobody is told of its address.
WRITE_ORDER = """
INSERT INTO mixer.mixes (id, operation_id, fingerprint, owner, deposit_address, destinations, fee_ppm, delay_ms_min,
                         delay_ms_max, minimum)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING
"""
READ_ORDER = "SELECT fingerprint FROM mixer.mixes WHERE id = $1"
READ_OUR_ADDRESSES = "SELECT deposit_address, id FROM mixer.mixes WHERE deposit_address = ANY($1)"
# A mix without a deposit counts for an hour; after that its deposit is found a little later.
READ_IS_OPEN = """
SELECT EXISTS (SELECT FROM mixer.sweeps WHERE state IN ('planned', 'sending', 'seen'))
    OR EXISTS (SELECT FROM mixer.mixes m WHERE created_at > clock_timestamp() - interval '1 hour'
                  AND NOT EXISTS (SELECT FROM mixer.deposits WHERE mix_id = m.id))
"""


class MixStore:
    """Every method raises what is in postgres.TRANSIENT_FAULTS. `minimum`: of new mixes, in minor units."""

    def __init__(self, pool: postgres.Pool, minimum: int) -> None:
        self._pool = pool
        self._minimum = minimum

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
            self._minimum,
        )
        found: bytes = await self._pool.fetchval(READ_ORDER, mix)
        return found.hex()

    async def mixes_at(self, addresses: Collection[str]) -> dict[Address, str]:
        """Those of the addresses that are deposit addresses, with their mix."""
        likely = [address for address in addresses if DEPOSIT_ADDRESS.fullmatch(address)]
        rows = await self._pool.fetch(READ_OUR_ADDRESSES, likely) if likely else []
        return {Address(row["deposit_address"]): str(row["id"]) for row in rows}

    async def is_any_open(self) -> bool:
        """True while a deposit is expected or on its way to the ledger."""
        return bool(await self._pool.fetchval(READ_IS_OPEN))
