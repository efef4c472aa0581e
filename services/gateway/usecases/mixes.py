"""Mixes: ordered and read."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from services.gateway.store.mixes import MixFacts, list_mixes, read_mix
from services.gateway.usecases.caller import Caller
from services.gateway.usecases.faults import NotFound
from services.gateway.usecases.state import AppState
from services.gateway.usecases.submit import Submission, fingerprint, identify, submit
from shared.domain.ids import UUID_TEXT
from shared.domain.values import value
from shared.messages import MixCreate

ASSET: Final = "JOB"


@value
class MixOrder:
    """What is ordered. The fee in parts per million, delays in milliseconds."""

    destinations: Sequence[str]
    fee_ppm: int
    delay_ms_min: int
    delay_ms_max: int


async def order_mix(state: AppState, caller: Caller, key: str | None, order: MixOrder, wait_s: float) -> Submission:
    """Orders a mix. Raises CommandNotSent or TooManyCommands."""
    identity = identify(state, caller, key)
    command = MixCreate(
        id=identity.id,
        principal=caller.principal,
        fingerprint=fingerprint(
            "POST /v1/mixes", order.destinations, order.fee_ppm, order.delay_ms_min, order.delay_ms_max
        ),
        destinations=tuple(order.destinations),
        fee_ppm=order.fee_ppm,
        delay_ms_min=order.delay_ms_min,
        delay_ms_max=order.delay_ms_max,
    )
    return await submit(state, command, None, wait_s, is_repeat=identity.is_repeat)


async def mix(state: AppState, caller: Caller, identity: str) -> MixFacts:
    """The mix, if the caller may see it. Raises NotFound or DatabaseUnavailable."""
    found = await read_mix(state.database, identity) if UUID_TEXT.fullmatch(identity) else None
    if found is None or not caller.may_see(found.owner):
        raise NotFound("mix")
    return found


async def mixes(
    state: AppState, caller: Caller, *, status: str | None, created_at: datetime, before: str, limit: int
) -> list[MixFacts]:
    """The caller's mixes (an admin's: all), newest first, from the place (created_at, id) `before` on."""
    owner = None if caller.admin else caller.principal
    return await list_mixes(state.database, owner=owner, status=status, created_at=created_at, mix=before, limit=limit)
