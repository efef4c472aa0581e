"""Authenticates callers by API key, checks the scopes of their keys, and limits their rate.

Live keys are cached by their SHA-256. A cached key is trusted for `age_s_max` seconds; a background task looks up the
keys in use before that, so that requests need not wait for the database and a revoked key is refused within that time.
Unknown keys are remembered apart, and a source that sends many of them is refused before the database is asked.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NoReturn, TypeVar

from services.gateway.http.key_lookups import KeyLookups, all_of
from services.gateway.http.problems import Problem, RequestFault
from services.gateway.http.sources import FailureLimit, TokenBucket, rate_limited
from services.gateway.store.database import Database
from services.gateway.store.keys import StoredKey
from services.gateway.store.shares import Shares
from services.gateway.usecases.caller import ADMIN, Caller
from shared.domain.api_keys import KEY_TEXT, Scope, hash_of_key
from shared.domain.ids import Principal
from shared.domain.values import value

KEYS_KNOWN_MAX: Final = 10_000
NEVER_RECHECKED: Final = float("inf")

Kept = TypeVar("Kept")


@value
class KeyLimits:
    """`age_s_max`: for how many seconds a look-up is trusted. Rates: requests of a key, unknown keys of a source."""

    age_s_max: float = 1.0
    rate_per_s_max: float = 0.0
    rate_burst_max: int = 200
    failures_per_s_max: float = 20.0
    failures_burst_max: int = 200


@dataclass(slots=True, eq=False)
class _Known:
    """A live key. `checked_s`: when its last look-up began, by the monotonic clock; infinite for the admin key."""

    caller: Caller
    checked_s: float
    bucket: TokenBucket
    in_use: bool = False


class Keychain:
    """The cache of API keys: `known` maps the SHA-256 of a live key to what this gateway knows of it.

    `requests`: the shares of those in flight.
    """

    def __init__(
        self,
        database: Database,
        admin_key: str | None,
        limits: KeyLimits,
        requests: Shares,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.known: dict[bytes, _Known] = {}
        self._unknown: dict[bytes, float] = {}  # SHA-256 of a key that is not live → when its look-up began
        self._limits = limits
        self._requests = requests
        self._clock = clock
        self._used = asyncio.Event()
        self._lookups = KeyLookups(database, clock)
        self._failures = FailureLimit(per_s=limits.failures_per_s_max, burst=limits.failures_burst_max, clock=clock)
        if admin_key is not None:
            self.replace_admin_key(admin_key)

    def replace_admin_key(self, key: str) -> None:
        """Makes this the only admin key."""
        for old in [digest for digest, known in self.known.items() if known.checked_s == NEVER_RECHECKED]:
            del self.known[old]
        caller = Caller("admin", ADMIN, frozenset({Scope.ADMIN}), admin=True)
        self.known[hash_of_key(key)] = self._new_known(caller, NEVER_RECHECKED)

    async def authenticate(self, authorizations: list[str], source: Callable[[], str]) -> Caller:
        """The caller whose key is in the one Authorization header. `source`: tells where the request comes from.

        Raises Problem, ShareExceeded or DatabaseUnavailable.
        """
        if len(authorizations) != 1:
            _refuse("one Authorization header is needed: Bearer <API key>")
        scheme, _, text = authorizations[0].partition(" ")
        if scheme.lower() != "bearer" or not KEY_TEXT.fullmatch(text):
            _refuse("the Authorization header is: Bearer <API key>")
        digest = hash_of_key(text)
        now = self._clock()
        known = self.known.get(digest)
        if known is None or now - known.checked_s > self._limits.age_s_max:
            known = await self._look_up(digest) if known else await self._look_up_new(digest, now, source)
        if known is None:
            _refuse("the API key is unknown or revoked")
        if not known.in_use:
            known.in_use = True
            self._used.set()
        if self._limits.rate_per_s_max and (wait_s := known.bucket.take(now)):
            raise rate_limited("the API key asks too often", wait_s)
        return known.caller

    async def run(self) -> None:
        """Answers look-ups, and looks up the keys in use every `age_s_max / 2` seconds. Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._lookups.run(), name="look-ups of keys")
            group.create_task(self._recheck(), name="keys in use")

    async def _recheck(self) -> None:
        while True:
            await self._used.wait()
            await asyncio.sleep(self._limits.age_s_max / 2)
            self._used.clear()
            in_use = {key: known for key, known in self.known.items() if known.in_use}
            for known in in_use.values():
                known.in_use = False
            checked = [digest for digest, known in in_use.items() if known.checked_s != NEVER_RECHECKED]
            lookups = {digest: self._lookups.ask(digest) for digest in checked}
            await all_of(lookups.values())
            for digest, lookup in lookups.items():
                if (found := lookup.result()).fault is None:
                    self._learn(digest, found.key, found.began_s)
            await self._lookups.note_used([in_use[digest].caller.key_id for digest in checked])

    async def _look_up_new(self, digest: bytes, now: float, source: Callable[[], str]) -> _Known | None:
        """Looks up a key that is not in the cache; meanwhile the request counts as its source's.

        Raises Problem after too many unknown keys of the source, or ShareExceeded.
        """
        address = source()
        self._failures.check(address)
        known = None
        if now - self._unknown.get(digest, -NEVER_RECHECKED) > self._limits.age_s_max:
            waiting = f"address {address}"  # as no principal is named
            self._requests.take(waiting)
            try:
                known = await self._look_up(digest)
            finally:
                self._requests.give_back(waiting)
        if known is None:
            self._failures.note(address)
        return known

    async def _look_up(self, digest: bytes) -> _Known | None:
        found = await self._lookups.find(digest)
        return self._learn(digest, found.key, found.began_s)

    def _learn(self, digest: bytes, key: StoredKey | None, began_s: float) -> _Known | None:
        """Takes what a look-up found into the cache."""
        known = self.known.get(digest)
        if key is None:
            if known is not None:
                del self.known[digest]
            _keep(self._unknown, digest, began_s)
            return None
        self._unknown.pop(digest, None)
        if known is None:
            known = self._new_known(_caller(key), began_s)
            _keep(self.known, digest, known)
        known.caller, known.checked_s = _caller(key), began_s
        return known

    def _new_known(self, caller: Caller, checked_s: float) -> _Known:
        burst = float(self._limits.rate_burst_max)
        return _Known(caller, checked_s, TokenBucket(self._limits.rate_per_s_max, burst, burst, self._clock()))


def require_scope(caller: Caller, scopes: Sequence[Scope]) -> None:
    """Raises Problem unless the caller's key has one of the scopes."""
    if not caller.may(*scopes):
        lacking = " or ".join(f"`{scope}`" for scope in scopes)
        raise Problem(RequestFault.FORBIDDEN, f"the API key lacks the scope {lacking}")


def _keep(kept: dict[bytes, Kept], digest: bytes, item: Kept) -> None:
    """Adds an item; drops the oldest ones when there are too many, but never the admin key."""
    kept[digest] = item
    if len(kept) > KEYS_KNOWN_MAX:
        for oldest in list(islice(kept, KEYS_KNOWN_MAX // 10)):
            known = kept[oldest]
            if not isinstance(known, _Known) or known.checked_s != NEVER_RECHECKED:
                del kept[oldest]


def _caller(key: StoredKey) -> Caller:
    scopes = frozenset(Scope(each) for each in key.scopes)
    return Caller(key.id, Principal(key.principal), scopes, admin=Scope.ADMIN in scopes)


def _refuse(detail: str) -> NoReturn:
    raise Problem(RequestFault.UNAUTHENTICATED, detail, headers={"WWW-Authenticate": 'Bearer realm="tellerline"'})
