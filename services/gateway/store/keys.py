"""API keys, as access.keys holds them."""

from collections.abc import Iterable, Sequence

from services.gateway.store.database import Database
from shared.domain.ids import Principal
from shared.domain.values import value


@value
class StoredKey:
    """A live key. `hash` is the SHA-256 of what the client sends."""

    id: str
    hash: bytes
    principal: str
    scopes: Sequence[str]


READ_LIVE_KEYS = (
    "SELECT id, hash, principal, scopes FROM access.keys WHERE hash = ANY($1::bytea[]) AND revoked_at IS NULL"
)


async def read_live_keys(database: Database, hashes: Iterable[bytes]) -> list[StoredKey]:
    """The keys with these SHA-256 hashes that exist and are not revoked. Raises DatabaseUnavailable."""
    rows = await database.rows(READ_LIVE_KEYS, list(hashes))
    return [StoredKey(**row) for row in rows]


NOTE_KEYS_USED = """
UPDATE access.keys SET last_used_at = clock_timestamp()
 WHERE id = ANY($1::text[]) AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '10 seconds')
"""


async def note_keys_used(database: Database, ids: Iterable[str]) -> None:
    """Sets `last_used_at` of the keys to now, at most every 10 s. Raises DatabaseUnavailable."""
    await database.rows(NOTE_KEYS_USED, list(ids))


READ_PRINCIPALS = "SELECT DISTINCT principal FROM access.keys"


async def read_principals(database: Database) -> list[Principal]:
    """Every principal that has, or had, a key in the database. Raises DatabaseUnavailable."""
    return [Principal(row["principal"]) for row in await database.rows(READ_PRINCIPALS)]
