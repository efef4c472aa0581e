"""Keys: checked at most a second ago, refused once revoked, and no more often than they may."""

from dataclasses import dataclass, field
from typing import cast

import pytest

from services.gateway.http import auth
from services.gateway.http.auth import Keychain, require_scope
from services.gateway.http.problems import Problem, RequestFault
from services.gateway.store.database import Database, DatabaseUnavailable
from services.gateway.store.keys import StoredKey
from services.gateway.usecases.caller import Caller
from shared.domain.api_keys import Scope, hash_of_key, new_key

ADMIN_KEY = "an-admin-key-of-a-test"


@dataclass(slots=True)
class Keys:
    """What the store would read, and how often it was asked."""

    live: dict[bytes, StoredKey] = field(default_factory=dict[bytes, StoredKey])
    asked: int = 0
    down: bool = False

    async def read(self, _: Database, hashes: object) -> list[StoredKey]:
        self.asked += 1
        if self.down:
            raise DatabaseUnavailable
        return [self.live[each] for each in cast("list[bytes]", hashes) if each in self.live]

    def make(self, *scopes: Scope) -> str:
        key = new_key()
        self.live[key.hash] = StoredKey(key.id, key.hash, "alice", [*scopes] or [Scope.READ])
        return key.text


@dataclass(slots=True)
class Clock:
    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Keys:
    keys = Keys()
    monkeypatch.setattr(auth, "read_live_keys", keys.read)
    return keys


@pytest.fixture
def clock() -> Clock:
    return Clock()


def keychain(clock: Clock, *, rate_per_s_max: float = 0.0) -> Keychain:
    return Keychain(cast("Database", None), ADMIN_KEY, 1.0, rate_per_s_max, 3, clock)


async def caller(keys: Keychain, text: str) -> Caller:
    return await keys.authenticate([f"Bearer {text}"])


async def test_a_key_is_looked_up_once_and_then_known_for_a_second(store: Keys, clock: Clock) -> None:
    keys, text = keychain(clock), store.make(Scope.WRITE)
    for _ in range(10):
        assert (await caller(keys, text)).scopes == {Scope.WRITE}
    assert store.asked == 1
    clock.now_s += 1.1
    await caller(keys, text)
    assert store.asked == 2


async def test_a_revoked_key_is_refused_once_what_is_known_is_too_old(store: Keys, clock: Clock) -> None:
    keys, text = keychain(clock), store.make()
    await caller(keys, text)
    del store.live[hash_of_key(text)]
    await caller(keys, text)
    clock.now_s += 1.1
    with pytest.raises(Problem) as refused:
        await caller(keys, text)
    assert refused.value.code is RequestFault.UNAUTHENTICATED


async def test_an_unknown_key_costs_one_question_a_second(store: Keys, clock: Clock) -> None:
    keys = keychain(clock)
    for _ in range(10):
        with pytest.raises(Problem):
            await caller(keys, "unknown-unknown-unknown")
    assert store.asked == 1


async def test_a_key_that_cannot_be_checked_is_not_taken(store: Keys, clock: Clock) -> None:
    keys, text = keychain(clock), store.make()
    await caller(keys, text)
    store.down = True
    clock.now_s += 1.1
    with pytest.raises(DatabaseUnavailable):
        await caller(keys, text)
    assert (await caller(keys, ADMIN_KEY)).admin


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["Bearer a" * 4, "Bearer b" * 4],
        [""],
        ["Bearer"],
        ["Bearer "],
        [f"Basic {ADMIN_KEY}"],
        [f"Bearer  {ADMIN_KEY}"],
        [f"Bearer {ADMIN_KEY} "],
        [f"Bearer {ADMIN_KEY[:-1]}"],
        [f"Bearer {ADMIN_KEY}x"],
        ["Bearer " + "é" * 20],
        ["Bearer " + "x" * 7_000],
    ],
)
async def test_what_is_no_key_is_refused(store: Keys, clock: Clock, headers: list[str]) -> None:
    with pytest.raises(Problem) as refused:
        await keychain(clock).authenticate(headers)
    assert refused.value.code is RequestFault.UNAUTHENTICATED


async def test_a_scope_that_a_key_lacks_is_forbidden_and_admin_has_all(store: Keys, clock: Clock) -> None:
    keys = keychain(clock)
    require_scope(await caller(keys, ADMIN_KEY), [Scope.PAYOUT])
    reader = await caller(keys, store.make(Scope.READ))
    require_scope(reader, [Scope.READ])
    for scope in (Scope.WRITE, Scope.PAYOUT, Scope.ADMIN):
        with pytest.raises(Problem):
            require_scope(reader, [scope])


async def test_one_of_several_scopes_will_do(store: Keys, clock: Clock) -> None:
    keys = keychain(clock)
    for scope in (Scope.WRITE, Scope.PAYOUT, Scope.ADMIN):
        require_scope(await caller(keys, store.make(scope)), [Scope.WRITE, Scope.PAYOUT])
    with pytest.raises(Problem) as refused:
        require_scope(await caller(keys, store.make(Scope.READ)), [Scope.WRITE, Scope.PAYOUT])
    assert refused.value.detail == "the API key lacks the scope `write` or `payout`"


async def test_a_key_may_burst_and_then_at_its_rate(store: Keys, clock: Clock) -> None:
    keys, text = keychain(clock, rate_per_s_max=2.0), store.make()
    for _ in range(3):
        await caller(keys, text)
    with pytest.raises(Problem) as refused:
        await caller(keys, text)
    assert (refused.value.code, refused.value.headers["Retry-After"]) == (RequestFault.RATE_LIMITED, "1")
    clock.now_s += 0.5
    await caller(keys, text)


async def test_what_is_known_is_bounded_and_the_admin_key_stays(
    store: Keys, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "KEYS_KNOWN_MAX", 50)
    keys = keychain(clock)
    for number in range(500):
        with pytest.raises(Problem):
            await caller(keys, f"stranger-stranger-{number}")
    assert len(keys.known) <= 51
    assert (await caller(keys, ADMIN_KEY)).admin
