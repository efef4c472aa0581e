"""Reads mixes and their payouts, which the deposit poller and the distributor write."""

import json
from collections.abc import Sequence
from datetime import datetime

import asyncpg

from services.gateway.store.database import Database, fields
from shared.domain.values import value


@value
class PayoutFacts:
    """One payout of a mix. `amount` in minor units of JOB; `due_at_us` in microseconds since 1970 UTC."""

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
    created_at_us: int
    payouts: Sequence[PayoutFacts]


# In one statement, so that the payouts add up to what the mix says of them.
_COLUMNS = """
SELECT id::text AS id, operation_id::text AS operation_id, owner, deposit_address, destinations, fee_ppm, status,
       received, fee, paid, remaining, ledger.us(next_due_at) AS next_due_at_us, ledger.us(created_at) AS created_at_us,
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
    database: Database, owner: str | None, status: str | None, place: tuple[datetime, str], limit: int
) -> list[MixFacts]:
    """Mixes older than `place` (created_at, id), newest first. None filters nothing. Raises DatabaseUnavailable."""
    return [_facts(row) for row in await database.rows(LIST_MIXES, owner, status, *place, limit)]


def _facts(row: asyncpg.Record) -> MixFacts:
    columns = fields(row)
    payouts = json.loads(columns["payouts"] or "[]")
    columns["payouts"] = [PayoutFacts(each[0], int(each[1]), int(each[2]), each[3]) for each in payouts]
    return MixFacts(**columns)
