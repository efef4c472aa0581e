"""Up to which instants the journal is final; see ledger.instants in 0010_instants.sql."""

from services.gateway.store.database import Database
from shared.domain.values import value


@value
class InstantFacts:
    """Microseconds since 1970. Everything recorded until `final_us` can be read now, and nothing more will be.

    `position_us`: the same, but certain even when the clock is set back: the instant of a batch, 0 without one.
    """

    now_us: int
    final_us: int
    position_us: int


READ_INSTANTS = "SELECT now_us, final_us, position_us FROM ledger.instants()"


async def read_instants(database: Database) -> InstantFacts:
    """The instants now. What is read after it, in another statement, agrees with them. Raises DatabaseUnavailable."""
    [row] = await database.rows(READ_INSTANTS)
    return InstantFacts(**row)
