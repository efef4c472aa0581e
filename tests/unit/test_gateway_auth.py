"""Keys: checked at most a second ago, refused once revoked, and no more often than they may."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

import pytest

from services.gateway.http import auth, key_lookups
from services.gateway.http.auth import Keychain, KeyLimits, require_scope
from services.gateway.http.problems import Problem, RequestFault
from services.gateway.store.database import Database, DatabaseUnavailable
from services.gateway.store.keys import StoredKey
from services.gateway.store.shares import Shares
from services.gateway.usecases.caller import Caller
from shared.domain.api_keys import Scope, hash_of_key, new_key
from tests.contract.conditions import eventually

ADMIN_KEY = "an-admin-key-of-a-test"


@dataclass(slots=True)
class Keys:
    """What the store would read, and how often it was asked."""

    live: dict[bytes, StoredKey] = field(default_factory=dict[bytes, StoredKey])
    used: list[str] = field(default_factory=list[str])
    asked: int = 0
    down: bool = False
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.answers.set()

    async def read(self, _: Database, hashes: object) -> list[StoredKey]:
        self.asked += 1
        await self.answers.wait()
        if self.down:
            raise DatabaseUnavailable
        return [self.live[each] for each in cast("list[bytes]", hashes) if each in self.live]

    async def note(self, _: Database, ids: object) -> None:
        self.used += cast("list[str]", ids)

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
    monkeypatch.setattr(key_lookups, "read_live_keys", keys.read)
    monkeypatch.setattr(key_lookups, "note_keys_used", keys.note)
    return keys


@pytest.fixture
def clock() -> Clock:
    return Clock()


def keychain(clock: Clock, *, rate_per_s_max: float = 0.0) -> Keychain:
    limits = KeyLimits(1.0, rate_per_s_max, 3, failures_per_s_max=2.0, failures_burst_max=20)
    return Keychain(cast("Database", None), ADMIN_KEY, limits, Shares("requests", 1_000, 500), clock)


async def caller(keys: Keychain, text: str, source: str = "192.0.2.1") -> Caller:
    return await authenticated(keys, [f"Bearer {text}"], source)


async def authenticated(keys: Keychain, headers: list[str], source: str = "192.0.2.1") -> Caller:
    """The caller, while the look-ups are answered."""
    running = asyncio.get_running_loop().create_task(keys.run())
    try:
        return await keys.authenticate(headers, lambda: source)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


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
async def test_a_malformed_authorization_header_is_401(store: Keys, clock: Clock, headers: list[str]) -> None:
    with pytest.raises(Problem) as refused:
        await authenticated(keychain(clock), headers)
    assert refused.value.code is RequestFault.UNAUTHENTICATED


async def test_a_scope_that_a_key_lacks_is_forbidden_and_admin_has_all(store: Keys, clock: Clock) -> None:
    keys = keychain(clock)
    require_scope(await caller(keys, ADMIN_KEY), [Scope.PAYOUT])
    reader = await caller(keys, store.make(Scope.READ))
    require_scope(reader, [Scope.READ])
    for scope in (Scope.WRITE, Scope.PAYOUT, Scope.ADMIN):
        with pytest.raises(Problem):
            require_scope(reader, [scope])


async def test_a_key_needs_only_one_of_several_scopes(store: Keys, clock: Clock) -> None:
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
    for _ in range(200):
        await caller(keys, store.make())
    assert len(keys.known) <= 50
    assert (await caller(keys, ADMIN_KEY)).admin


async def test_unknown_keys_push_no_live_key_out(store: Keys, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "KEYS_KNOWN_MAX", 20)
    keys, text = keychain(clock), store.make()
    await caller(keys, text)
    for number in range(100):
        with pytest.raises(Problem):
            await caller(keys, f"stranger-stranger-{number}", f"192.0.2.{number}")
    assert len(keys.known) == 2
    asked = store.asked
    await caller(keys, text)
    assert store.asked == asked


async def test_all_who_wait_for_a_look_up_share_the_next_query(store: Keys, clock: Clock) -> None:
    keys, text = keychain(clock), store.make()
    store.answers.clear()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(keys.run())
        first = group.create_task(keys.authenticate([f"Bearer {text}"], lambda: "192.0.2.1"))
        await eventually(lambda: store.asked == 1)
        others = [store.make() for _ in range(9)]
        waiting = [
            group.create_task(keys.authenticate([f"Bearer {each}"], lambda: "192.0.2.1"))
            for each in [text, *others] * 3
        ]
        await asyncio.sleep(0)
        assert (await keys.authenticate([f"Bearer {ADMIN_KEY}"], lambda: "192.0.2.1")).admin
        store.answers.set()
        assert (await first).principal == "alice"
        assert len({(await each).key_id for each in waiting}) == 10
        running.cancel()
    assert store.asked == 2


async def test_a_source_of_many_unknown_keys_waits_and_the_database_is_not_asked(store: Keys, clock: Clock) -> None:
    keys, text = keychain(clock), store.make()
    await caller(keys, text)
    for number in range(20):
        with pytest.raises(Problem) as refused:
            await caller(keys, f"stranger-stranger-{number}")
        assert refused.value.code is RequestFault.UNAUTHENTICATED
    asked = store.asked
    for number in range(20, 40):
        with pytest.raises(Problem) as refused:
            await caller(keys, f"stranger-stranger-{number}")
        assert (refused.value.code, refused.value.headers["Retry-After"]) == (RequestFault.RATE_LIMITED, "1")
    assert (await caller(keys, text)).principal == "alice"
    assert store.asked == asked
    with pytest.raises(Problem) as refused:
        await caller(keys, "stranger-stranger-0", "192.0.2.2")
    assert refused.value.code is RequestFault.UNAUTHENTICATED
    clock.now_s += 0.5
    with pytest.raises(Problem) as refused:
        await caller(keys, "stranger-stranger-x")
    assert refused.value.code is RequestFault.UNAUTHENTICATED


async def test_live_keys_that_are_new_here_are_no_failures_of_their_source(store: Keys, clock: Clock) -> None:
    keys = keychain(clock)
    for _ in range(100):
        await caller(keys, store.make())


async def test_a_key_that_was_unknown_is_known_a_second_after_it_was_made(store: Keys, clock: Clock) -> None:
    keys, text = keychain(clock), store.make()
    stored = store.live.pop(hash_of_key(text))
    with pytest.raises(Problem):
        await caller(keys, text)
    store.live[stored.hash] = stored
    clock.now_s += 1.1
    await caller(keys, text)


async def test_keys_in_use_are_looked_up_again_before_they_are_too_old(store: Keys) -> None:
    limits = KeyLimits(age_s_max=0.05)
    keys, text = Keychain(cast("Database", None), ADMIN_KEY, limits, Shares("requests", 1_000, 500)), store.make()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(keys.run())
        for _ in range(3):
            asked = store.asked
            await keys.authenticate([f"Bearer {text}"], lambda: "192.0.2.1")
            await eventually(lambda asked=asked: store.asked > asked)
        await eventually(lambda: text.split("_")[1] in store.used)
        await keys.authenticate([f"Bearer {text}"], lambda: "192.0.2.1")
        del store.live[hash_of_key(text)]
        await eventually(lambda: hash_of_key(text) not in keys.known)
        running.cancel()
