"""Authenticates callers by API key, checks the scopes of their keys, and limits their rate.

Keys are cached by their SHA-256. A cached key is trusted for `age_s_max` seconds; a background task re-reads the keys
in use before that, so that requests need not wait for the database and a revoked key is refused within that time.
"""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NoReturn

import structlog

from services.gateway.http.problems import Problem, RequestFault
from services.gateway.store.database import Database, DatabaseUnavailable
from services.gateway.store.keys import StoredKey, note_keys_used, read_live_keys
from services.gateway.usecases.caller import ADMIN, Caller
from shared.domain.api_keys import Scope, hash_of_key
from shared.domain.ids import Principal

log = structlog.get_logger()

KEYS_KNOWN_MAX: Final = 10_000
KEY_TEXT: Final = re.compile(r"[\x21-\x7e]{16,200}", re.ASCII)


@dataclass(slots=True, eq=False)
class _Known:
    """A cached key. `caller` None: it does not exist or is revoked. `checked_s` infinite: the admin key, never re-read.

    `tokens`: how many requests it may send now. Times in seconds of the monotonic clock.
    """

    caller: Caller | None
    checked_s: float
    tokens: float
    refilled_s: float
    in_use: bool = False


@dataclass(slots=True, eq=False)
class Keychain:
    """The cache of API keys: `known` maps the SHA-256 of a key to what this gateway knows of it."""

    database: Database
    admin_key: str | None
    age_s_max: float
    rate_per_s_max: float
    rate_burst_max: int
    clock: Callable[[], float] = time.monotonic
    known: dict[bytes, _Known] = field(default_factory=dict[bytes, _Known])
    used: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        if self.admin_key is not None:
            caller = Caller("admin", ADMIN, frozenset({Scope.ADMIN}), admin=True)
            self.known[hash_of_key(self.admin_key)] = self._made(caller, float("inf"))

    async def authenticate(self, authorizations: list[str]) -> Caller:
        """The caller whose key is in the one Authorization header. Raises Problem or DatabaseUnavailable."""
        if len(authorizations) != 1:
            _refuse("one Authorization header is needed: Bearer <API key>")
        scheme, _, text = authorizations[0].partition(" ")
        if scheme.lower() != "bearer" or not KEY_TEXT.fullmatch(text):
            _refuse("the Authorization header is: Bearer <API key>")
        digest = hash_of_key(text)
        now = self.clock()
        known = self.known.get(digest)
        if known is None or now - known.checked_s > self.age_s_max:
            known = await self._look_up(digest, now)
        if known.caller is None:
            _refuse("the API key is unknown or revoked")
        if not known.in_use:
            known.in_use = True
            self.used.set()
        if self.rate_per_s_max:
            self._take(known, now)
        return known.caller

    async def run(self) -> None:
        """Re-reads the keys in use from the database every `age_s_max / 2` seconds. Runs until cancelled."""
        while True:
            await self.used.wait()
            await asyncio.sleep(self.age_s_max / 2)
            self.used.clear()
            in_use = {
                digest: known
                for digest, known in self.known.items()
                if known.in_use and known.checked_s != float("inf")
            }
            for known in in_use.values():
                known.in_use = False
            try:
                await self._check(in_use)
            except DatabaseUnavailable as fault:
                log.warning("keys.unchecked", fault=str(fault))

    async def _check(self, in_use: dict[bytes, _Known]) -> None:
        if not in_use:
            return
        began = self.clock()
        used = [known.caller.key_id for known in in_use.values() if known.caller is not None]
        live = {key.hash: key for key in await read_live_keys(self.database, in_use)}
        for digest, known in in_use.items():
            known.caller = _caller(live[digest]) if digest in live else None
            known.checked_s = began
        await note_keys_used(self.database, used)

    async def _look_up(self, digest: bytes, now: float) -> _Known:
        """Reads the key from the database into the cache; drops the oldest keys when that is full."""
        stored = await read_live_keys(self.database, [digest])
        caller = _caller(stored[0]) if stored else None
        known = self.known.get(digest)
        if known is None:
            if len(self.known) >= KEYS_KNOWN_MAX:
                for oldest in [each for each in islice(self.known, 100) if self.known[each].checked_s != float("inf")]:
                    del self.known[oldest]
            known = self.known[digest] = self._made(caller, now)
        known.caller, known.checked_s = caller, now
        return known

    def _take(self, known: _Known, now: float) -> None:
        """Takes a token from the key's bucket. Raises Problem rate_limited when there is none."""
        refilled = known.tokens + (now - known.refilled_s) * self.rate_per_s_max
        known.tokens, known.refilled_s = min(refilled, float(self.rate_burst_max)), now
        if known.tokens < 1:
            wait_s = int((1 - known.tokens) / self.rate_per_s_max) + 1
            raise Problem(RequestFault.RATE_LIMITED, "the API key asks too often", headers={"Retry-After": str(wait_s)})
        known.tokens -= 1

    def _made(self, caller: Caller | None, checked_s: float) -> _Known:
        return _Known(caller, checked_s, float(self.rate_burst_max), self.clock())


def require_scope(caller: Caller, scopes: Sequence[Scope]) -> None:
    """Raises Problem unless the caller's key has one of the scopes."""
    if not caller.may(*scopes):
        lacking = " or ".join(f"`{scope}`" for scope in scopes)
        raise Problem(RequestFault.FORBIDDEN, f"the API key lacks the scope {lacking}")


def _caller(key: StoredKey) -> Caller:
    scopes = frozenset(Scope(each) for each in key.scopes)
    return Caller(key.id, Principal(key.principal), scopes, admin=Scope.ADMIN in scopes)


def _refuse(detail: str) -> NoReturn:
    raise Problem(RequestFault.UNAUTHENTICATED, detail, headers={"WWW-Authenticate": 'Bearer realm="tellerline"'})
