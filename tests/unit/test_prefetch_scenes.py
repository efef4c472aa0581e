"""What a worker reads before it decides or takes in: real commit loop between twins, in virtual time."""

import pytest

from shared.domain.ids import AssetCode, Partition, system_account
from tests.builders import Commands, account_in
from tests.twins.proof import prove
from tests.unit.ledger_scene import MAKE, PARTITIONS, Scene, play

GOLD = AssetCode("GOLD")
IN_GOLD = Commands(asset=GOLD)
P0, P1 = Partition(0), Partition(1)


def test_a_worker_that_learns_an_asset_late_takes_its_credits_in() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin(workers=2)
        await it.until(lambda: len(it.owners()) == 2, "not shared")
        rows = it.journal.owners
        elsewhere = next(p for p in range(PARTITIONS) if rows[p].owner != rows[0].owner)
        source, destination = account_in(0), account_in(elsewhere)
        it.publish(IN_GOLD.asset_create(GOLD, 2), partition=P0)
        await it.settled()
        await it.until_done(IN_GOLD.open(source, overdraft_limit=1_000))
        await it.until_done(IN_GOLD.open(destination))
        [owner] = [worker for worker in it.workers if worker.name == rows[elsewhere].owner]
        del owner.loop.owned.ledger.assets[GOLD]  # as in a worker that has just taken the partition over
        await it.until_done(IN_GOLD.transfer(source, destination, 5))
        assert it.balance(destination) == 5
        assert prove(it.journal) == 0

    play(scene())


def test_a_row_of_an_asset_that_is_learnt_late_goes_to_suspense_if_nobody_can_read_it() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        source, destination = account_in(0), account_in(1)
        it.publish(IN_GOLD.asset_create(GOLD, 2), partition=P0)
        await it.settled()
        await it.until_done(IN_GOLD.open(source, overdraft_limit=1_000), IN_GOLD.open(destination))
        worker.loop.owned.states[P1].is_draining = True  # so that the row waits
        transfer = IN_GOLD.transfer(source, destination, 7)
        it.publish(transfer)
        await it.until(lambda: transfer.id in it.journal.operations, "not decided")
        [row] = it.journal.transit.keys() - it.journal.settlements.keys()
        it.journal.transit[row] = '{"v":9}'
        del worker.loop.owned.ledger.assets[GOLD]
        worker.loop.owned.states[P1].is_draining = False
        worker.inbox.nudge_all()
        await it.settled()
        assert it.balance(system_account("suspense", GOLD, P1)) == 7

    play(scene())


@pytest.mark.parametrize("place", [0, 1])
def test_a_hold_is_captured_to_a_system_account_of_an_asset_that_is_learnt_late(place: int) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        account = account_in(0)
        it.publish(IN_GOLD.asset_create(GOLD, 2), partition=P0)
        await it.settled()
        await it.until_done(IN_GOLD.open(account, overdraft_limit=1_000))
        hold = IN_GOLD.hold(account, 10)
        await it.until_done(hold)
        del worker.loop.owned.ledger.assets[GOLD]
        capture = IN_GOLD.capture(hold, system_account("house", GOLD, Partition(place)))
        await it.until_done(capture)
        assert it.code(capture) is None

    play(scene())


@pytest.mark.parametrize("is_first", [True, False])
def test_a_hold_that_two_partitions_name_is_captured_in_its_own_and_not_open_in_the_other(*, is_first: bool) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        hold = MAKE.hold(it.here, 10)
        await it.until_done(hold)
        await it.until_done(MAKE.transfer(it.here, it.there, 1))  # after a commit, holds are forgotten
        it.delay_max_s = 0.0  # so that both arrive before either is decided
        capture = MAKE.capture(hold, it.there)
        other = MAKE.void(hold).model_copy(update={"account": it.there})
        for command in (capture, other) if is_first else (other, capture):
            it.publish(command)
        await it.settled()
        assert (it.code(capture), it.code(other)) == (None, "hold_not_open")
        assert it.balance(it.here) == 989

    play(scene())
