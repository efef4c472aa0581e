"""Assets."""

from services.gateway.store.database import Database
from shared.domain.values import value


@value
class AssetFacts:
    """One unit is 10^scale minor units. Nothing of an asset ever changes."""

    code: str
    scale: int
    name: str


READ_ASSET = "SELECT code, scale, name FROM ledger.assets WHERE code = $1"


async def read_asset(database: Database, code: str) -> AssetFacts | None:
    """The asset, if there is one. Raises DatabaseUnavailable."""
    row = await database.row(READ_ASSET, code)
    return None if row is None else AssetFacts(**row)


LIST_ASSETS = "SELECT code, scale, name FROM ledger.assets WHERE code > $1 ORDER BY code LIMIT $2"


async def list_assets(database: Database, *, after: str, limit: int) -> list[AssetFacts]:
    """Assets with a code greater than `after`, by code. Raises DatabaseUnavailable."""
    return [AssetFacts(**row) for row in await database.rows(LIST_ASSETS, after, limit)]
