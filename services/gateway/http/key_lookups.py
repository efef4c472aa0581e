"""Look-ups of API keys in the database: one query at a time, for all keys that somebody waits for."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

import structlog

from services.gateway.store.database import Database, DatabaseUnavailable
from services.gateway.store.keys import StoredKey, note_keys_used, read_live_keys
from shared.domain.values import value

log = structlog.get_logger()

KEYS_PER_QUERY_MAX: Final = 1_000


@value
class LookupResult:
    """What a look-up found. `key` None: no live key. `began_s`: when its query began, by the monotonic clock."""

    began_s: float
    key: StoredKey | None = None
    fault: DatabaseUnavailable | None = None


class KeyLookups:
    """While a query runs, further digests gather for the next one; each digest is asked for once."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._waiting: dict[bytes, asyncio.Future[LookupResult]] = {}
        self._asked = asyncio.Event()

    def ask(self, digest: bytes) -> "asyncio.Future[LookupResult]":
        """Begins or joins the look-up of the key with this SHA-256. Wait by `asyncio.shield`: others wait, too."""
        lookup = self._waiting.get(digest)
        if lookup is None:
            lookup = self._waiting[digest] = asyncio.get_running_loop().create_future()
            self._asked.set()
        return lookup

    async def find(self, digest: bytes) -> LookupResult:
        """Looks the key up, together with others that are asked for meanwhile. Raises DatabaseUnavailable."""
        found = await asyncio.shield(self.ask(digest))
        if found.fault is not None:
            raise DatabaseUnavailable(str(found.fault)) from found.fault
        return found

    async def run(self) -> None:
        """Answers look-ups until cancelled."""
        while True:
            await self._asked.wait()
            batch = {digest: self._waiting.pop(digest) for digest in list(islice(self._waiting, KEYS_PER_QUERY_MAX))}
            if not self._waiting:
                self._asked.clear()
            await self._answer(batch)

    async def note_used(self, ids: Sequence[str]) -> None:
        """Notes in the database when these keys were used. Does nothing when that fails: the next use is noted."""
        if not ids:
            return
        try:
            await note_keys_used(self._database, ids)
        except DatabaseUnavailable as fault:
            log.warning("keys.use_not_noted", fault=str(fault))

    async def _answer(self, batch: "dict[bytes, asyncio.Future[LookupResult]]") -> None:
        began_s = self._clock()
        live: dict[bytes, StoredKey] = {}
        fault: DatabaseUnavailable | None = None
        try:
            live = {key.hash: key for key in await read_live_keys(self._database, batch)}
        except DatabaseUnavailable as unavailable:
            log.warning("keys.unchecked", keys=len(batch), fault=str(unavailable))
            fault = unavailable
        for digest, lookup in batch.items():
            lookup.set_result(LookupResult(began_s, live.get(digest), fault))


async def all_of(lookups: Iterable["asyncio.Future[LookupResult]"]) -> None:
    """Waits for all of these look-ups."""
    for lookup in lookups:
        await asyncio.shield(lookup)
