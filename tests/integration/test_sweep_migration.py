"""A ledger of the time when each deposit was swept by itself keeps every coin, every step and every id."""

from collections.abc import AsyncIterator

import pytest

from shared.database import postgres
from shared.database.migrate import known_migrations
from tests.backends.databases import Database

SWEEPS = 14
MIX = "00000000-0000-0000-0000-0000000000aa"
ADDRESS = "0123456789abcdef" * 2
# Name of the deposit → state, stuck_in, sender, minor units, rest units, and when it was listed, in seconds.
DEPOSITS = {
    "1": ("credited", None, "a", 5, 0, 3),
    "2": ("credited", None, "a", 5, 0, 1),
    "3": ("swept", None, "b", 0, 6 * 10**21, 1),
    "4": ("credited", None, "c", 0, 6 * 10**21, 1),
    "5": ("sweeping", None, "d", 7, 0, 1),
    "6": ("seen", None, "e", 7, 0, 1),
    "7": ("stuck", "seen", "f", 7, 0, 1),
    "8": ("stuck", "seen", ADDRESS, 7, 0, 1),
}


def uuid_of(name: str) -> str:
    return f"00000000-0000-0000-0000-00000000000{name}"


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[postgres.Connection]:
    """A database as it was before, with deposits in every state."""
    connection = await postgres.connect(database.owner, application="tests")
    await connection.execute("DROP SCHEMA IF EXISTS ledger, access, mixer, payouts CASCADE")
    for migration in known_migrations()[: SWEEPS - 1]:
        await connection.execute(migration.sql)
    await connection.execute(
        "INSERT INTO mixer.mixes (id, operation_id, fingerprint, owner, deposit_address, destinations, fee_ppm,"
        " delay_ms_min, delay_ms_max) VALUES ($1, $1, $3, 'p', $2, '{a}', 0, 0, 0)",
        MIX,
        ADDRESS,
        bytes(16),
    )
    for name, (state, stuck_in, sender, minor, rest, second) in DEPOSITS.items():
        await connection.execute(
            "INSERT INTO mixer.deposits (id, mix_id, instance, listed_at, occurred_at, sender, address, occurrence,"
            " amount_units, amount_minor, rest_units, state, stuck_in, credit_operation_id)"
            " VALUES ($1, $2, 'puppy', $3, to_timestamp($4), $5, $6, 1, $7, $8, $9, $10, $11, $12)",
            uuid_of(name),
            MIX,
            str(second),
            second,
            sender,
            ADDRESS,
            minor * 10**22 + rest,
            minor,
            rest,
            state,
            stuck_in,
            uuid_of(name) if state == "credited" and minor else None,
        )
    await connection.execute(
        "INSERT INTO mixer.sweeps (id, deposit_id, leg, attempt, source, destination, amount_units, settles_at, ended,"
        " seen_row) SELECT id, id, 'sweep', 1, address, 'house', amount_units, now(),"
        " CASE WHEN state <> 'sweeping' THEN 'seen' END, CASE WHEN state <> 'sweeping' THEN id END"
        " FROM mixer.deposits WHERE state IN ('credited', 'swept', 'sweeping')"
    )
    yield connection
    await connection.close()


async def test_every_deposit_of_before_goes_on_from_where_it_was(owner: postgres.Connection) -> None:
    await owner.execute(known_migrations()[SWEEPS - 1].sql)
    found = await owner.fetch(
        "SELECT d.id, d.network, d.occurrence, d.confirmed_at IS NOT NULL AS counts, s.state, s.credit_minor"
        " FROM mixer.deposits d JOIN mixer.sweeps s ON s.id = d.sweep_id AND s.id = d.id ORDER BY d.id"
    )
    assert [tuple(row)[1:] for row in found] == [
        ("jobcoin", 2, True, "credited", 5),
        ("jobcoin", 1, True, "credited", 5),
        ("jobcoin", 1, True, "seen", 0),
        ("jobcoin", 1, True, "credited", 0),
        ("jobcoin", 1, True, "sending", None),
        ("jobcoin", 1, True, "planned", None),
        ("jobcoin", 1, True, "planned", None),
        # A transfer of the address to itself was no deposit.
        ("jobcoin", 1, False, "cancelled", None),
    ]
    mix = await owner.fetchrow("SELECT minimum, unswept_units, rest_units, disputed_at FROM mixer.mixes")
    assert mix is not None
    assert tuple(mix) == (1, 0, 12 * 10**21, None)
    seen = await owner.fetch(
        "SELECT amount_units, array_agg(seen_occurrence ORDER BY seen_occurrence) FROM mixer.sweep_intents"
        " WHERE seen_occurrence IS NOT NULL GROUP BY amount_units ORDER BY amount_units"
    )
    assert [row[1] for row in seen] == [[1, 2], [1, 2]]
    assert await owner.fetchval("SELECT count(*) FROM mixer.sweep_intents WHERE ended IS NULL") == 1
