"""Instants that are final, and positions, from which clients follow lists without losing a row."""

import asyncio
import re
import time
from typing import Final

import structlog

from services.gateway.store.database import Database, DatabaseUnavailable
from services.gateway.store.instants import InstantFacts, read_instants
from services.gateway.store.shares import SERVING
from services.gateway.usecases.faults import InvalidField, NotFinal
from shared.domain.values import value

log = structlog.get_logger()

# How long an answer waits for the commits that are under way.
WAIT_S_MAX: Final = 5.0
POLL_S: Final = 0.003
# How old the position on answers may become: an older one is as right, and only repeats more.
REFRESH_S: Final = 0.5
POSITION: Final = re.compile(r"[0-9a-f]{1,15}", re.ASCII)


@value
class Followed:
    """What a page may hold of a list that is followed: rows recorded after `after_us` and not after `until_us`.

    Both None: the list is not followed. `position`: from where the client goes on once it has all pages.
    """

    after_us: int | None
    until_us: int | None
    position: str


class Instants:
    """The newest instants that this gateway has heard of from the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._final_us = 0
        self._position_us = 0
        self._reading = asyncio.Lock()
        self._begun = 0  # readings
        self._newest: tuple[int, InstantFacts] | None = None  # the number of a reading, and what it found
        # For answers. Whatever was not committed when it was read comes after it in every list.
        self.position = "0"

    async def run(self) -> None:
        """Keeps the position fresh. Runs until cancelled."""
        while True:
            try:
                await self._read()
            except DatabaseUnavailable as fault:
                log.warning("instants.unknown", fault=str(fault))
            await asyncio.sleep(REFRESH_S)

    async def final_us(self, at_us: int | None = None) -> int:
        """The instant, or the present one, once it is final: waits for the commits that are under way.

        Raises InvalidField for an instant in the future, NotFinal when it takes too long, DatabaseUnavailable.
        """
        if at_us is not None and at_us <= self._final_us:
            return at_us
        until_s = time.monotonic() + WAIT_S_MAX
        facts = await self._read()
        wanted_us = facts.now_us if at_us is None else at_us
        if wanted_us > facts.now_us:
            raise InvalidField("invalid_request", "at", "this instant lies in the future")
        while facts.final_us < wanted_us:
            if time.monotonic() > until_s:
                raise NotFinal("the instant is not final yet: a commit is still under way")
            await asyncio.sleep(POLL_S)
            facts = await self._read()
        return wanted_us

    async def follow(self, after_position: str | None, until_us: int) -> Followed:
        """What a list may show after this position. `until_us`: of the page before, 0 on the first page.

        The first page waits, as `final_us` does, so that it has everything that was committed when it was asked for;
        if that takes too long, the rest comes with the next position. Raises InvalidField or DatabaseUnavailable.
        """
        if after_position is None:
            return Followed(None, None, self.position)
        if not POSITION.fullmatch(after_position):
            raise InvalidField("invalid_request", "after_position", "it is no position")
        after_us = int(after_position, 16)
        if not until_us:
            try:
                now_us = await self.final_us()
            except NotFinal:
                now_us = (await self._read()).now_us
            if after_us > now_us:
                raise InvalidField("invalid_request", "after_position", "it is ahead of this ledger")
            until_us = max(after_us, self._position_us)
        return Followed(after_us, until_us, f"{until_us:x}")

    async def _read(self) -> InstantFacts:
        """What a reading finds that begins after this call. All who wait for one share it."""
        wanted = self._begun + 1
        async with self._reading:
            if self._newest is None or self._newest[0] < wanted:
                self._begun += 1
                self._newest = self._begun, await self._ask()
            return self._newest[1]

    async def _ask(self) -> InstantFacts:
        serving = SERVING.set(None)  # it is for all callers, so it must not wait for the share of one
        try:
            facts = await read_instants(self._database)
        finally:
            SERVING.reset(serving)
        self._final_us = max(self._final_us, facts.final_us)
        self._position_us = max(self._position_us, facts.position_us)
        self.position = f"{self._position_us:x}"
        return facts
