"""Assets."""

from typing import Final

from services.gateway.store.assets import AssetFacts
from services.gateway.usecases.faults import NotFound
from services.gateway.usecases.state import AppState
from services.gateway.usecases.submit import Submission, Write, submit
from shared.domain.ids import AssetCode, Partition
from shared.messages import AssetCreate

# Assets are few and belong to no account, so one partition decides them.
PARTITION: Final = Partition(0)


async def create_asset(write: Write, facts: AssetFacts) -> Submission:
    """Makes an asset known. Raises CommandNotSent or TooManyCommands."""
    command = AssetCreate(**write.header(), asset=AssetCode(facts.code), scale=facts.scale, name=facts.name)
    return await submit(write, command, PARTITION)


async def asset(state: AppState, code: str) -> AssetFacts:
    """The asset. Raises NotFound or DatabaseUnavailable."""
    found = await state.assets.find(code)
    if found is None:
        raise NotFound("asset")
    return found
