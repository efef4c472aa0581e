"""The ledger worker's shell in scenes that chance seldom plays: real teller and keeper between twins, virtual time."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from services.ledger_worker import folding, sealing, teller
from services.ledger_worker.core.accounts import Account
from services.ledger_worker.core.line import Line
from services.ledger_worker.group import Group
from services.ledger_worker.owned import Owned
from services.ledger_worker.ports import Lease, Sealed
from shared.ids import AccountId, Partition, partition_of
from tests.builders import account_in
from tests.property.simulated_worker import PARTITIONS
from tests.twins.faults import Fault
from tests.twins.proof import prove
from tests.unit.ledger_scene import MAKE, Scene, play


def test_a_partition_taken_again_while_it_is_held_loses_no_delivery() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        for _ in range(5):
            it.publish(MAKE.move(it.here, it.there, 1))
        worker.store.fail_next("commit", Fault.UNAVAILABLE)
        row = it.journal.owners[0]
        row.epoch += 1
        await worker.teller.add(Lease(Partition(0), row.epoch))
        it.publish(MAKE.move(it.here, it.there, 1))
        await it.settled()
        assert it.balance(it.here) == 994

    play(scene())


def test_a_group_is_answered_and_acknowledged_even_when_the_next_cannot_be_sealed() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        command = MAKE.move(it.here, it.there, 1)
        worker.store.fail_next("pending_transit", *[Fault.UNAVAILABLE] * 3)
        it.publish(command)
        worker.teller.nudge(Partition(0))
        await it.settled()
        assert (command.id, command.fingerprint) in it.told.answered

    play(scene())


def test_an_answer_leaves_before_the_next_group_is_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        first, second = MAKE.move(it.here, it.there, 1), MAKE.move(it.here, it.there, 1)
        answered_at_seal: list[bool] = []
        commit = worker.store.commit

        async def committed(owner: str, batches: Sequence[Sealed]) -> dict[Partition, int]:
            if len(answered_at_seal) == 1:
                it.publish(second)
                await asyncio.sleep(1.0)  # of virtual time, in which it is decided
            return await commit(owner, batches)

        def sealed(owned: Owned, group: Group) -> None:
            if group.commands:
                answered_at_seal.append((first.id, first.fingerprint) in it.told.answered)
            sealing.seal_drafts(owned, group)

        monkeypatch.setattr(worker.store, "commit", committed)
        monkeypatch.setattr(teller, "seal_drafts", sealed)
        await it.until_done(first)
        assert answered_at_seal == [False, True]

    play(scene())


def test_a_transit_row_that_nobody_can_read_goes_to_suspense_and_the_line_goes_on() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin(workers=2)
        away = await it.away()
        for worker in it.workers:
            worker.freeze()
        it.publish(MAKE.move(it.here, away, 7))
        it.workers[[worker.name for worker in it.workers].index(str(it.journal.owners[0].owner))].thaw()
        await it._until(lambda: bool(it.journal.transit.keys() - it.journal.settlements.keys()), "no row waits")
        [row] = it.journal.transit.keys() - it.journal.settlements.keys()
        whole, it.journal.transit[row] = it.journal.transit[row], '{"v":9}'
        for worker in it.workers:
            worker.thaw()
        await it.settled()
        assert it.balance(AccountId(f"suspense:USD:{row[2]}")) == 7
        it.journal.transit[row] = whole  # so that the proof can read it
        prove(it.journal)
        await it.until_done(MAKE.move(it.here, away, 1))
        assert it.balance(away) == 1

    play(scene())


def test_a_transit_row_that_makes_the_core_raise_goes_to_suspense(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: object) -> None:
        raise ZeroDivisionError

    def nowhere(*_: object) -> None:
        return None

    async def scene() -> None:
        it = Scene()
        await it.begin()
        # As if the other line were not ours when the debit was decided: the credit comes back from the journal.
        monkeypatch.setattr(Line, "beside", nowhere)
        monkeypatch.setattr(folding, "fold_row", raises)
        await it.until_done(MAKE.move(it.here, it.there, 7))
        assert it.balance(AccountId("suspense:USD:1")) == 7
        prove(it.journal)

    play(scene())


def test_a_line_that_is_given_back_while_accounts_are_read_takes_none_of_them_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        # The source must be read; the destination is in memory, in the line that ends meanwhile.
        del worker.teller.lines[Partition(0)].accounts[it.here]
        worker.teller._world.facts.clear()
        read = worker.store.accounts

        async def read_slowly(wanted: Sequence[AccountId]) -> list[tuple[Account, Partition]]:
            rows = await read(wanted)
            await asyncio.sleep(0.5)
            return rows

        monkeypatch.setattr(worker.store, "accounts", read_slowly)
        move = MAKE.move(it.here, it.there, 1)
        it.publish(move)
        await asyncio.sleep(0.1)
        [lease] = [lease for lease in worker.teller.leases() if lease.partition == 1]
        await worker.keeper._give_back(lease)
        await it.settled()
        assert it.code(move) is None

    play(scene())


def test_a_line_that_is_being_given_back_folds_nothing_more() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin(workers=2)
        away = await it.away()
        await it.until_done(MAKE.deposit(away, 100))
        [owner] = [worker for worker in it.workers if worker.name == it.journal.owners[0].owner]
        owner.teller.lines[Partition(0)].is_draining = True
        move = MAKE.move(away, it.here, 5)
        it.publish(move)
        await it._until(lambda: move.id in it.journal.operations, "not decided")
        await asyncio.sleep(10)  # virtual: several looks at what waits
        assert it.journal.transit.keys() > it.journal.settlements.keys()
        owner.teller.lines[Partition(0)].is_draining = False
        await it.settled()
        assert it.balance(it.here) == 1_005

    play(scene())


def test_a_worker_without_a_broker_leaves_its_partitions_to_the_others_until_it_hears_again() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin(workers=2)
        await it._until(lambda: len(it.owners()) == 2, "not shared")
        deaf, other = it.workers
        deaf.bus.is_deaf = True
        await it._until(lambda: it.owners() == {other.name}, "it keeps what it cannot hear")
        await it.until_done(MAKE.move(it.here, it.there, 1))
        deaf.bus.is_deaf = False
        await it._until(lambda: it.owners() == {deaf.name, other.name}, "it never comes back")

    play(scene())


def test_everything_is_given_back_while_commands_keep_coming() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [leaving] = it.workers
        it.start()
        for number in range(200):
            it.publish(MAKE.move(it.here, it.there, 1))
            if number == 50:
                it.workers.remove(leaving)
                await leaving.stop()
                assert leaving.name not in it.owners()
        await it.settled()
        assert (it.balance(it.here), it.balance(it.there)) == (800, 1_200)

    play(scene())


def test_a_transfer_to_an_account_that_another_worker_has_closed_is_refused() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin(workers=2)
        away = await it.away()
        refused = MAKE.move(it.here, away, 1)
        await it.until_done(MAKE.close(away))
        await it.until_done(refused)
        assert (it.code(refused), it.balance(it.here)) == ("account_closed", 1_000)

    play(scene())


def test_a_credit_that_comes_back_tells_that_its_account_has_closed_since_it_was_read() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin(workers=2)
        away = await it.away()
        returned, refused = MAKE.move(it.here, away, 1), MAKE.move(it.here, away, 1)
        for command in (MAKE.move(it.here, away, 5), MAKE.withdrawal(away, 5), MAKE.close(away), returned, refused):
            await it.until_done(command)
        assert (it.code(returned), it.code(refused), it.balance(it.here)) == (None, "account_closed", 995)
        assert prove(it.journal) == 0

    play(scene())


def test_a_closing_that_was_not_committed_refuses_nothing() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        await it.until_done(MAKE.move(it.here, it.there, 1))
        await it.until_done(MAKE.withdrawal(it.there, 1_001))
        row = it.journal.owners[1]
        row.owner, row.epoch = "another worker", row.epoch + 1
        close, move = MAKE.close(it.there), MAKE.move(it.here, it.there, 1)
        it.publish(close)
        await it._until(lambda: Partition(1) not in worker.teller.lines, "it does not notice")
        it.publish(move)
        await it._until(lambda: move.id in it.journal.operations, "never decided")
        assert (it.code(move), close.id in it.journal.operations) == (None, False)
        row.owner = None
        await it.settled()

    play(scene())


def test_a_command_that_came_by_another_workers_queue_is_sent_on_to_its_owner() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin(workers=2)
        away = await it.away()
        moved, far = MAKE.move(it.here, it.there, 1), MAKE.open(account_in(partition_of(away, PARTITIONS)))
        it.publish(moved, far, partition=Partition(0))
        await it.settled()
        assert {moved.id, far.id} <= {identity for identity, _ in it.told.answered}
        assert it.journal.operations[far.id]["partition"] == str(partition_of(away, PARTITIONS))

    play(scene())


@pytest.mark.parametrize("seed", range(10))
def test_a_worker_that_takes_over_one_partition_after_the_other_finds_the_accounts_of_all(seed: int) -> None:
    async def scene() -> None:
        it = Scene()
        it.lots, it.delay_max_s = random.Random(seed), 0.01
        await it.begin()
        everywhere = [account_in(place) for place in range(PARTITIONS)]
        await it.until_done(*(MAKE.open(account) for account in everywhere))
        await it.until_done(*(MAKE.deposit(account, 1_000) for account in everywhere))
        [gone] = it.workers
        it.workers.remove(gone)
        gone.kill()
        # Waits in the queue of the first partition while the next worker takes all four.
        moves = [MAKE.move(account, it.here, 1) for account in everywhere]
        it.publish(*moves, partition=Partition(0))
        it.start()
        await it.settled()
        assert [it.code(move) for move in moves] == [None] * PARTITIONS

    play(scene())
