"""Mixes: ordered and read."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from services.gateway.store.database import DatabaseUnavailable
from services.gateway.store.health import read_processes
from services.gateway.store.mixes import MixFacts, read_mix
from services.gateway.store.operations import read_operation
from services.gateway.usecases.caller import Caller
from services.gateway.usecases.faults import CommandNotSent, NotFound
from services.gateway.usecases.progress import deposits_unseen
from services.gateway.usecases.state import AppState
from services.gateway.usecases.submit import Submission, Write, submit
from shared.domain.ids import UUID_TEXT
from shared.messages import MixCreate

ASSET: Final = "JOB"


async def order_mix(
    write: Write, destinations: Sequence[str], fee_ppm: int, delay_ms_min: int, delay_ms_max: int
) -> tuple[MixCreate, Submission]:
    """Orders a mix. Fee in parts per million, delays in milliseconds.

    Raises CommandNotSent, also while no deposit can be seen: no new address is given out then. TooManyCommands, or
    DatabaseUnavailable: it had no effect.
    """
    if not write.is_repeat and (why := await _deposits_unseen(write.state)) is not None:
        # Unless it was made before, which the same key is to be told.
        if not (write.has_key and await read_operation(write.state.database, write.id)):
            raise CommandNotSent(f"deposits cannot be seen at the moment, so no mix is made: {why}")
        write = replace(write, is_repeat=True)
    order = MixCreate(
        id=write.id,
        principal=write.caller.principal,
        fingerprint=write.content,
        destinations=tuple(destinations),
        fee_ppm=fee_ppm,
        delay_ms_min=delay_ms_min,
        delay_ms_max=delay_ms_max,
    )
    return order, await submit(write, order)


async def _deposits_unseen(state: AppState) -> str | None:
    try:
        return deposits_unseen(await read_processes(state.database))
    except DatabaseUnavailable:
        return None  # the poller decides, which needs the database as well


async def mix(state: AppState, caller: Caller, identity: str) -> MixFacts:
    """The mix, if the caller may see it. Raises NotFound or DatabaseUnavailable."""
    found = await read_mix(state.database, identity) if UUID_TEXT.fullmatch(identity) else None
    if found is None or not caller.may_see(found.owner):
        raise NotFound("mix")
    return found
