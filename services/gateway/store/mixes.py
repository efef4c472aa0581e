"""Mixes and their payouts, as poller and distributor have written them."""

import json
from collections.abc import Sequence
from datetime import datetime

import asyncpg

from services.gateway.store.database import Database
from shared.domain.values import value


@value
class PayoutFacts:
    """One increment. `amount` in minor units of JOB."""

    destination: str
    amount: int
    due_at_us: int
    status: str


@value
class MixFacts:
    """Amounts in minor units of JOB; instants in microseconds since 1970 UTC."""

    id: str
    operation_id: str
    owner: str
    deposit_address: str
    destinations: Sequence[str]
    fee_ppm: int
    status: str
    received: int
    fee: int
    paid: int
    remaining: int
    next_due_at_us: int | None
    created_at: datetime
    created_at_us: int
    payouts: Sequence[PayoutFacts]


# In one statement, so that the payouts add up to what the mix says of them.
_COLUMNS = """
SELECT id::text AS id, operation_id::text AS operation_id, owner, deposit_address, destinations, fee_ppm, status,
       received, fee, paid, remaining, ledger.us(next_due_at) AS next_due_at_us, created_at,
       ledger.us(created_at) AS created_at_us,
       (SELECT json_agg(json_build_array(destination, amount::text, ledger.us(due_at), p.status) ORDER BY due_at, p.id)
          FROM payouts.payout_heads p WHERE p.mix_id = m.id) AS payouts
  FROM mixer.mix_heads m
"""
READ_MIX = f"{_COLUMNS} WHERE id = $1::text::uuid"


async def read_mix(database: Database, mix: str) -> MixFacts | None:
    """The mix with its payouts. `mix` is the text of a UUID. Raises DatabaseUnavailable."""
    row = await database.row(READ_MIX, mix)
    return None if row is None else _facts(row)


LIST_MIXES = f"""{_COLUMNS}
 WHERE ($1::text IS NULL OR owner = $1) AND ($2::text IS NULL OR status = $2)
   AND created_at <= $3 AND (created_at, id) < ($3, $4::text::uuid)
 ORDER BY created_at DESC, m.id DESC LIMIT $5
"""


async def list_mixes(
    database: Database, *, owner: str | None, status: str | None, created_at: datetime, mix: str, limit: int
) -> list[MixFacts]:
    """Mixes created before that place, newest first. Raises DatabaseUnavailable."""
    return [_facts(row) for row in await database.rows(LIST_MIXES, owner, status, created_at, mix, limit)]


def _facts(row: asyncpg.Record) -> MixFacts:
    payouts = json.loads(row["payouts"]) if row["payouts"] else ()
    return MixFacts(
        id=str(row["id"]),
        operation_id=str(row["operation_id"]),
        owner=str(row["owner"]),
        deposit_address=str(row["deposit_address"]),
        destinations=list(row["destinations"]),
        fee_ppm=int(row["fee_ppm"]),
        status=str(row["status"]),
        received=int(row["received"]),
        fee=int(row["fee"]),
        paid=int(row["paid"]),
        remaining=int(row["remaining"]),
        next_due_at_us=row["next_due_at_us"],
        created_at=row["created_at"],
        created_at_us=int(row["created_at_us"]),
        payouts=[PayoutFacts(each[0], int(each[1]), int(each[2]), each[3]) for each in payouts],
    )
