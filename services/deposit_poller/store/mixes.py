"""Mixes and the orders that make them."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter

from shared import db
from shared.jobcoin_rows import Address
from shared.messages import FieldError, MixCreate
from shared.messages.mixer import deposit_address, mix_id
from shared.rejections import Rejection

# As shared.messages.mixer makes them. The network holds texts that PostgreSQL could not even be asked about.
DEPOSIT_ADDRESS: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
ERRORS: Final = TypeAdapter(tuple[FieldError, ...])

# In one statement: the outcome of a key, and what follows from it. Nothing is written if the key has an outcome.
WRITE_MIX = """
WITH decided AS (
    INSERT INTO mixer.operations (id, kind, principal, fingerprint, outcome, subject)
    VALUES ($1, $2, $3, $4, 'posted', $5) ON CONFLICT (id) DO NOTHING RETURNING id)
INSERT INTO mixer.mixes (id, operation_id, owner, deposit_address, destinations, fee_ppm, delay_ms_min, delay_ms_max)
SELECT $5, id, $3, $6, $7, $8, $9, $10 FROM decided
"""
WRITE_REFUSAL = """
INSERT INTO mixer.operations (id, kind, principal, fingerprint, outcome, code, detail)
VALUES ($1, $2, $3, $4, 'rejected', $5, $6) ON CONFLICT (id) DO NOTHING
"""
READ_OPERATION = """
SELECT o.fingerprint, o.code, o.detail, o.subject, ledger.us(o.recorded_at) AS recorded_at_us,
       coalesce(m.account_opened, true) AS account_opened
  FROM mixer.operations o LEFT JOIN mixer.mixes m ON m.id = o.subject WHERE o.id = $1
"""
# Keys are one space: the same one may have come by another route, or was cancelled by who did not call it a mix.
READ_LEDGER = "SELECT code FROM ledger.operations WHERE id = $1"
READ_OUR_ADDRESSES = "SELECT deposit_address, id FROM mixer.mixes WHERE deposit_address = ANY($1)"
READ_UNOPENED = "SELECT id FROM mixer.mixes WHERE NOT account_opened ORDER BY created_at LIMIT $1"
WRITE_OPENED = "UPDATE mixer.mixes SET account_opened = true WHERE id = $1"
# A mix without a deposit is waited for eagerly for an hour; after that its deposit is found a little later.
READ_IS_OPEN = """
SELECT EXISTS (SELECT FROM mixer.deposits WHERE state IN ('seen', 'sweeping', 'swept'))
    OR EXISTS (SELECT FROM mixer.mixes m WHERE created_at > clock_timestamp() - interval '1 hour'
                  AND NOT EXISTS (SELECT FROM mixer.deposits WHERE mix_id = m.id))
"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The outcome of an order, as it stands in the database. `mix` is None when it was refused."""

    fingerprint: str
    code: Rejection | None
    errors: tuple[FieldError, ...]
    mix: str | None
    recorded_at_us: int
    account_opened: bool


class MixStore:
    """Every method raises what is in db.TRANSIENT_FAULTS."""

    def __init__(self, pool: db.Pool) -> None:
        self._pool = pool

    async def write_mix(self, order: MixCreate) -> None:
        """The order's outcome is posted, unless it has one."""
        await self._pool.execute(
            WRITE_MIX, order.id, order.kind, order.principal, bytes.fromhex(order.fingerprint), mix_id(order.id),
            deposit_address(order.id), list(order.destinations), order.fee_ppm, order.delay_ms_min, order.delay_ms_max,
        )  # fmt: skip

    async def write_refusal(
        self, order_id: str, principal: str, fingerprint: str, code: Rejection, errors: Sequence[FieldError] = ()
    ) -> None:
        """The order's outcome is this refusal, unless it has one."""
        detail = ERRORS.dump_json(tuple(errors)).decode() if errors else None
        await self._pool.execute(
            WRITE_REFUSAL, order_id, "mix.create.v1", principal, bytes.fromhex(fingerprint), code.value, detail
        )

    async def used_elsewhere(self, order_id: str) -> Rejection | None:
        """What the ledger's use of the same id means for an order; None when it does not know it."""
        row = await self._pool.fetchrow(READ_LEDGER, order_id)
        if row is None:
            return None
        return Rejection.CANCELLED if row["code"] == Rejection.CANCELLED else Rejection.IDEMPOTENCY_KEY_REUSED

    async def outcome(self, order_id: str) -> Recorded | None:
        """What was decided about the order, if anything."""
        row = await self._pool.fetchrow(READ_OPERATION, order_id)
        if row is None:
            return None
        return Recorded(
            row["fingerprint"].hex(),
            None if row["code"] is None else Rejection(row["code"]),
            ERRORS.validate_json(row["detail"]) if row["detail"] else (),
            None if row["subject"] is None else str(row["subject"]),
            int(row["recorded_at_us"]),
            bool(row["account_opened"]),
        )

    async def mixes_at(self, addresses: Collection[str]) -> dict[Address, str]:
        """Those of the addresses that are deposit addresses, with their mix."""
        likely = [address for address in addresses if DEPOSIT_ADDRESS.fullmatch(address)]
        rows = await self._pool.fetch(READ_OUR_ADDRESSES, likely) if likely else []
        return {Address(row["deposit_address"]): str(row["id"]) for row in rows}

    async def unopened(self, mixes_max: int) -> list[str]:
        """Mixes whose ledger account is not known to be there."""
        return [str(row["id"]) for row in await self._pool.fetch(READ_UNOPENED, mixes_max)]

    async def write_opened(self, mix: str) -> None:
        """The ledger said that the account is there."""
        await self._pool.execute(WRITE_OPENED, mix)

    async def is_any_open(self) -> bool:
        """Whether somebody waits for the network's list to move."""
        return bool(await self._pool.fetchval(READ_IS_OPEN))
