"""Transit accounts stay within the bound of a balance, however much has crossed. The bound is 5,000 here."""

from collections.abc import Sequence

import pytest

from services.ledger_worker.core import transfers, transit
from shared.domain.ids import AccountId, Partition, system_account
from tellerline.verification import transit as verification
from tests.builders import account_in
from tests.twins import journal
from tests.twins.proof import prove
from tests.unit.ledger_scene import MAKE, PARTITIONS, Scene, play

BOUND = 5_000
PART = 900


@pytest.fixture(autouse=True)
def _low_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (journal, transfers, transit):
        monkeypatch.setattr(module, "BALANCE_MINOR_MAX", BOUND)
    for module in (transit, verification):
        monkeypatch.setattr(module, "NETTED_FROM", BOUND // 1_000)


async def accounts_in(it: Scene, partitions: Sequence[int]) -> list[AccountId]:
    """A new account in each of the partitions."""
    accounts = [account_in(partition) for partition in partitions]
    await it.until_done(*(MAKE.open(account) for account in accounts))
    return accounts


def transit_balances(it: Scene) -> list[int]:
    return [it.balance(account) for account in map(AccountId, it.journal.entries) if account.startswith("transit:")]


@pytest.mark.parametrize("ring", [(0, 1), (0, 1, 2), (3, 0, 2, 1)])
def test_any_amount_may_cross_in_the_course_of_time(ring: Sequence[int]) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin(workers=2)
        accounts = await accounts_in(it, ring)
        await it.until_done(MAKE.deposit(accounts[0], PART))
        for number in range(30 * len(ring)):
            step = MAKE.transfer(accounts[number % len(ring)], accounts[(number + 1) % len(ring)], PART)
            await it.until_done(step)
            assert it.code(step) is None
        assert max(map(abs, transit_balances(it))) <= 2 * PART
        assert (prove(it.journal), it.broker.dead_letters) == (0, [])

    play(scene())


def test_netting_goes_on_after_a_restart() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        here, there = await accounts_in(it, (0, 1))
        await it.until_done(MAKE.deposit(here, PART))
        for number in range(12):
            step = MAKE.transfer(*((here, there) if number % 2 == 0 else (there, here)), PART)
            await it.until_done(step)
            assert it.code(step) is None
            for state in it.workers[0].loop.owned.states.values():
                state.accounts.clear()
        assert max(map(abs, transit_balances(it))) <= 3 * PART
        assert prove(it.journal) == 0

    play(scene())


def test_what_would_pass_the_bound_on_its_way_out_is_refused_as_such() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        targets = await accounts_in(it, (1,) * 12)
        sources = [system_account(role, MAKE.asset, Partition(0)) for role in ("world", "house") for _ in range(6)]
        sent = [MAKE.transfer(source, target, PART) for source, target in zip(sources, targets, strict=True)]
        await it.until_done(*sent)
        refused = ["limit_exceeded"] * 5  # of 1,000 that had been deposited, the world holds the other side
        assert [it.code(step) for step in sent] == [None] * 4 + refused[:2] + [None] + refused
        assert (prove(it.journal), it.broker.dead_letters) == (0, [])

    play(scene())


def test_what_would_pass_the_bound_on_its_way_in_comes_back() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        targets = await accounts_in(it, (1,) * 7)
        [relay] = await accounts_in(it, (0,))
        world = [system_account("world", MAKE.asset, Partition(partition)) for partition in range(PARTITIONS)]
        await it.until_done(*(MAKE.transfer(world[0], target, PART) for target in targets[:4]))
        for target in targets[4:]:
            await it.until_done(MAKE.transfer(world[2], relay, PART))
            await it.until_done(MAKE.transfer(relay, target, PART))
        assert [it.balance(target) if target in it.journal.entries else 0 for target in targets] == [PART] * 5 + [0] * 2
        assert it.balance(relay) == 2 * PART
        assert (prove(it.journal), it.broker.dead_letters) == (0, [])

    play(scene())
