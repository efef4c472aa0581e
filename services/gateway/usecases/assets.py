"""Assets."""

from typing import Final

from services.gateway.store.assets import AssetFacts
from services.gateway.usecases.caller import Caller
from services.gateway.usecases.faults import NotFound
from services.gateway.usecases.state import AppState
from services.gateway.usecases.submit import Submission, fingerprint, identify, submit
from shared.domain.ids import AssetCode, Partition
from shared.messages import AssetCreate

# Assets are few and belong to no account, so one partition decides them.
PARTITION: Final = Partition(0)


async def create_asset(
    state: AppState, caller: Caller, key: str | None, facts: AssetFacts, wait_s: float
) -> Submission:
    """Makes an asset known. Raises CommandNotSent or TooManyCommands."""
    identity = identify(state, caller, key)
    command = AssetCreate(
        **identity.header(caller, fingerprint("POST /v1/assets", facts.code, facts.scale, facts.name)),
        asset=AssetCode(facts.code),
        scale=facts.scale,
        name=facts.name,
    )
    return await submit(state, command, PARTITION, wait_s, is_repeat=identity.is_repeat)


async def asset(state: AppState, code: str) -> AssetFacts:
    """The asset. Raises NotFound or DatabaseUnavailable."""
    found = await state.assets.find(code)
    if found is None:
        raise NotFound("asset")
    return found
