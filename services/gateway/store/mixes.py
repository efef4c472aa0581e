"""Reads mixes and their payouts, which the deposit poller and the distributor write."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, TypeAlias

from services.gateway.store.database import Database, fields
from shared.domain.values import value


@value
class PayoutFacts:
    """One payout of a mix. `amount` in minor units of JOB; `due_at_us` in microseconds since 1970 UTC.

    `reason`: why it waits or is stuck.
    """

    id: str
    destination: str
    amount: int
    due_at_us: int
    status: str
    reason: str | None


@value
class MixFacts:
    """Amounts in minor units of JOB; instants in microseconds since 1970 UTC. `reason`: why it is stuck, or waits."""

    id: str
    operation_id: str
    owner: str
    deposit_address: str
    destinations: Sequence[str]
    fee_ppm: int
    status: str
    minimum: int
    received: int
    fee: int
    paid: int
    remaining: int
    next_due_at_us: int | None
    created_at_us: int
    reason: str | None


MixPlace: TypeAlias = tuple[datetime, str]


@value
class MixesRead:
    """`mixes`, newest first, and the place to read on from: None if there are no older ones."""

    mixes: Sequence[MixFacts]
    read_on: MixPlace | None


# A page with a status looks at no more mixes than this, for the status of a mix follows from all its rows.
MIXES_READ_MAX: Final = 1_000
MIXES_READ_TOGETHER: Final = 100
_SELECT: Final = """
SELECT h.id::text AS id, h.operation_id::text AS operation_id, h.owner, h.deposit_address, h.destinations, h.fee_ppm,
       h.status, h.minimum, h.received, h.fee, h.paid, h.remaining, ledger.us(h.next_due_at) AS next_due_at_us,
       ledger.us(h.created_at) AS created_at_us, h.reason
  FROM mixer.mix_heads h
"""
READ_MIX = f"{_SELECT} WHERE h.id = $1::text::uuid"


async def read_mix(database: Database, mix: str) -> MixFacts | None:
    """The mix. `mix` is the text of a UUID. Raises DatabaseUnavailable."""
    row = await database.row(READ_MIX, mix)
    return None if row is None else MixFacts(**fields(row))


READ_MINIMUM = "SELECT minimum FROM mixer.mixes WHERE id = $1::text::uuid"


async def read_minimum(database: Database, mix: str) -> int | None:
    """What the address of the mix must hold to be credited, in minor units. Raises DatabaseUnavailable."""
    row = await database.row(READ_MINIMUM, mix)
    return None if row is None else int(row["minimum"])


# These also have the orders that made no mix.
_PLACED: Final = """
WITH placed AS MATERIALIZED (
    SELECT id, created_at FROM mixer.mixes
     WHERE created_at <= $1 AND (created_at, id) < ($1, $2::text::uuid)
     ORDER BY created_at DESC, id DESC LIMIT $3)
"""
_PLACED_OF_OWNER: Final = """
WITH placed AS MATERIALIZED (
    SELECT id, created_at FROM mixer.mixes
     WHERE owner = $4 AND created_at <= $1 AND (created_at, id) < ($1, $2::text::uuid)
     ORDER BY created_at DESC, id DESC LIMIT $3)
"""
_EACH: Final = (
    "SELECT placed.id::text AS placed_id, placed.created_at AS placed_at, mix.* FROM placed LEFT JOIN LATERAL ("
)
_ITSELF: Final = " WHERE h.id = placed.id OFFSET 0) mix ON true ORDER BY placed.created_at DESC, placed.id DESC"
LIST_MIXES = f"{_PLACED}{_EACH}{_SELECT}{_ITSELF}"
LIST_MIXES_OF_OWNER = f"{_PLACED_OF_OWNER}{_EACH}{_SELECT}{_ITSELF}"


async def list_mixes(
    database: Database, owner: str | None, status: str | None, place: MixPlace, limit: int
) -> MixesRead:
    """At most `limit` mixes older than `place` (created_at, id). None filters nothing. Raises DatabaseUnavailable.

    It reads no more than MIXES_READ_MAX mixes, so there may be older ones though fewer than `limit` were found.
    """
    found: list[MixFacts] = []
    for _ in range(0, MIXES_READ_MAX, MIXES_READ_TOGETHER):
        arguments = (*place, MIXES_READ_TOGETHER)
        if owner is None:
            rows = await database.rows(LIST_MIXES, *arguments)
        else:
            rows = await database.rows(LIST_MIXES_OF_OWNER, *arguments, owner)
        for row in rows:
            columns = fields(row)
            placed = columns.pop("placed_at"), columns.pop("placed_id")
            if columns["id"] is not None and status in {None, columns["status"]}:
                if len(found) == limit:
                    return MixesRead(found, place)
                found.append(MixFacts(**columns))
            place = placed
        if len(rows) < MIXES_READ_TOGETHER:
            return MixesRead(found, None)
    return MixesRead(found, place)


LIST_PAYOUTS = """
SELECT id::text AS id, destination, amount, ledger.us(due_at) AS due_at_us, status, reason
  FROM payouts.payout_heads WHERE mix_id = $1::text::uuid AND (due_at, id) > ($2, $3::text::uuid)
 ORDER BY due_at, id LIMIT $4
"""


async def list_payouts(database: Database, mix: str, place: tuple[datetime, str], limit: int) -> list[PayoutFacts]:
    """The payouts of a mix after `place` (due_at, id), by when they are due. Raises DatabaseUnavailable."""
    return [PayoutFacts(**fields(row)) for row in await database.rows(LIST_PAYOUTS, mix, *place, limit)]
