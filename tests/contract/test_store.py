"""ports.Store, reading and committing: what the twin promises is what PostgreSQL does, in one statement and by COPY."""

from dataclasses import replace

import pytest

from services.ledger_worker.core.accounts import Status
from services.ledger_worker.core.batch import SealedBatch
from services.ledger_worker.ports import RepeatFound, RowRefused, StaleRead, Store, TransitRow
from shared.domain.ids import AccountId, AssetCode, HoldId, Partition
from shared.domain.rejections import Rejection
from shared.messages import Command
from tests.builders import account_in, command_id
from tests.contract.ledgers import MAKE, spread
from tests.contract.scribe import Scribe


async def test_what_a_commit_wrote_is_read_back(store: Store, scribe: Scribe) -> None:
    alice, bob, _ = spread()
    hold = MAKE.hold(alice, 30)
    refused = MAKE.transfer(bob, alice, 1)
    await scribe.write(MAKE.open(alice, overdraft_limit=7), MAKE.open(bob), MAKE.deposit(alice, 100), hold, refused)
    [account] = await store.accounts([alice, AccountId("nobody")])
    assert (account.balance, account.held, account.limit, account.seq) == (100, 30, 7, 3)
    assert (account.asset, account.owner, account.status, account.is_system) == ("USD", "alice", Status.OPEN, False)
    [placed] = await store.holds([hold.hold, HoldId(command_id())])
    assert (placed.account, placed.amount, placed.ended, placed.operation) == (alice, 30, None, hold.id)
    known = await store.known([hold.id, refused.id, command_id()])
    assert {identity: (each.fingerprint, each.code) for identity, each in known.items()} == {
        hold.id: (hold.fingerprint, None),
        refused.id: (refused.fingerprint, Rejection.INSUFFICIENT_FUNDS),
    }
    assert {partition: head.batch for partition, head in (await store.heads([Partition(0), Partition(3)])).items()} == {
        0: 1,
        3: 0,
    }


async def test_metadata_is_that_of_the_last_change(store: Store, scribe: Scribe) -> None:
    alice, bob, _ = spread()
    await scribe.write(MAKE.open(alice), MAKE.open(bob))
    assert await store.metadata([alice, AccountId("nobody")]) == {alice: None}
    await scribe.write(MAKE.update(alice, metadata_patch='{"a":1}'), MAKE.update(alice, metadata_patch='{"b":2}'))
    assert await store.metadata([alice, bob]) == {alice: '{"a":1,"b":2}', bob: None}


async def test_a_hold_that_was_ended_says_so(store: Store, scribe: Scribe) -> None:
    alice, bob, _ = spread()
    hold = MAKE.hold(alice, 30)
    await scribe.write(MAKE.open(alice), MAKE.open(bob), MAKE.deposit(alice, 100), hold)
    await scribe.write(MAKE.capture(hold, bob))
    assert [each.ended for each in await store.holds([hold.hold])] == ["captured"]


async def test_changes_of_status_and_new_assets_are_read_back(store: Store, scribe: Scribe) -> None:
    alice, _, _ = spread()
    await scribe.write(MAKE.open(alice), MAKE.update(alice, status="frozen"), MAKE.asset_create("GOLD", 3))
    await scribe.write(MAKE.update(alice, overdraft_limit=5))
    [account] = await store.accounts([alice])
    assert (account.status, account.limit, account.seq) == (Status.FROZEN, 5, 2)
    assert (await store.assets())[AssetCode("GOLD")] == 3


async def test_an_account_that_was_closed_says_so(store: Store, scribe: Scribe) -> None:
    alice, _, carol = spread()
    await scribe.write(MAKE.open(alice), MAKE.open(carol), MAKE.update(carol, status="frozen"))
    await scribe.write(MAKE.close(alice), MAKE.close(carol))
    assert [account.status for account in await store.accounts([alice, carol])] == [Status.CLOSED] * 2


async def test_text_comes_back_as_it_was_sent(store: Store, scribe: Scribe) -> None:
    alice, _, _ = spread()
    odd = MAKE.open(alice).model_copy(update={"metadata": '{"a":"\\t\\\\N \\n \\" é \t\n\\."}', "reference": "\\N"})
    await scribe.write(odd)
    assert list(await store.known([odd.id])) == [odd.id]


async def test_instants_of_a_partition_rise(scribe: Scribe) -> None:
    alice, _, _ = spread()
    commands: list[Command] = [MAKE.open(alice), *(MAKE.deposit(alice, 1) for _ in range(5))]
    instants = [(await scribe.write(command))[Partition(0)] for command in commands]
    assert instants == sorted(set(instants))


async def test_an_operation_that_is_in_the_journal_is_a_repeat_and_nothing_is_written(
    store: Store, scribe: Scribe
) -> None:
    alice, _, carol = spread()
    await scribe.write(MAKE.open(alice), MAKE.open(carol))
    deposit = MAKE.deposit(alice, 1, key="again")
    await scribe.write(deposit)
    scribe.owned.ledger.recent.clear()
    scribe.decide(deposit, MAKE.deposit(carol, 1))
    with pytest.raises(RepeatFound):
        await store.commit(scribe.seal())
    assert [account.balance for account in await store.accounts([alice, carol])] in ([1, 0], [0, 1])


@pytest.mark.parametrize("batch", [1, 3])
async def test_a_batch_that_does_not_follow_the_last_is_stale(store: Store, scribe: Scribe, batch: int) -> None:
    alice, _, _ = spread()
    await scribe.write(MAKE.open(alice))
    scribe.state(0).batch = batch - 1
    scribe.decide(MAKE.deposit(alice, 1))
    with pytest.raises(StaleRead):
        await store.commit(scribe.seal())
    assert (await store.heads([Partition(0)]))[Partition(0)].batch == 1


async def test_an_entry_whose_number_is_taken_is_stale(store: Store, scribe: Scribe) -> None:
    alice, _, _ = spread()
    await scribe.write(MAKE.open(alice), MAKE.deposit(alice, 10))
    scribe.state(0).accounts[alice].seq -= 1
    scribe.decide(MAKE.deposit(alice, 1))
    with pytest.raises(StaleRead):
        await store.commit(scribe.seal())


async def test_an_account_or_a_hold_that_exists_is_stale(store: Store, scribe: Scribe) -> None:
    alice, _, _ = spread()
    hold = MAKE.hold(alice, 1)
    await scribe.write(MAKE.open(alice), MAKE.deposit(alice, 10), hold)
    again: list[Command] = [MAKE.open(alice), MAKE.hold(alice, 1).model_copy(update={"hold": hold.hold})]
    for command in again:
        scribe.state(0).holds.clear()
        if command.kind == "account.create.v1":
            account = scribe.state(0).accounts.pop(alice)
            scribe.decide(command)
            scribe.state(0).accounts[alice] = account
        else:
            scribe.decide(command)
        with pytest.raises(StaleRead):
            await store.commit(scribe.seal())
        scribe.state(0).batch -= 1


@pytest.mark.parametrize("change", [{"reference": "a NUL: \0"}, {"metadata": "\0"}, {"id": "not-a-uuid"}])
async def test_a_value_that_no_column_takes_is_refused_and_the_store_goes_on(
    store: Store,
    scribe: Scribe,
    change: dict[str, str],
) -> None:
    alice, _, _ = spread()
    await scribe.write(MAKE.open(alice))
    scribe.decide(MAKE.deposit(alice, 1).model_copy(update=change))
    with pytest.raises(RowRefused):
        await store.commit(scribe.seal())
    scribe.state(0).batch -= 1
    scribe.state(0).accounts.clear()
    [account] = await store.accounts([alice])
    scribe.state(0).accounts[alice] = account
    await scribe.write(MAKE.deposit(alice, 2))
    assert [account.balance for account in await store.accounts([alice])] == [2]


async def test_entries_that_do_not_sum_to_zero_are_refused(store: Store, scribe: Scribe) -> None:
    alice, _, _ = spread()
    await scribe.write(MAKE.open(alice))
    scribe.state(0).open_batch().enter(scribe.state(0).accounts[alice], command_id(), 1)
    with pytest.raises(RowRefused):
        await store.commit(scribe.seal())


async def test_funds_below_zero_are_refused(store: Store, scribe: Scribe) -> None:
    alice, bob, _ = spread()
    await scribe.write(MAKE.open(alice), MAKE.open(bob))
    batch, operation = scribe.state(0).open_batch(), command_id()
    batch.enter(scribe.state(0).accounts[alice], operation, -1)
    batch.enter(scribe.state(0).accounts[bob], operation, 1)
    with pytest.raises(RowRefused):
        await store.commit(scribe.seal())


async def test_transit_rows_come_in_order_past_the_cursors_and_bounded(store: Store, scribe: Scribe) -> None:
    alice, bob, carol = spread()
    dave = account_in(2)
    await scribe.write(
        *(MAKE.open(who) for who in (alice, bob, carol, dave)), MAKE.deposit(alice, 100), MAKE.deposit(dave, 100)
    )
    for _ in range(3):
        await scribe.write(MAKE.transfer(alice, carol, 1), MAKE.transfer(dave, carol, 2), MAKE.transfer(alice, dave, 3))
    wanted = [(Partition(1), Partition(0), 2), (Partition(1), Partition(2), 0), (Partition(1), Partition(3), 0)]
    pending = await store.pending_transit(wanted, 100, 10_000)
    assert not pending.is_more
    rows = pending.rows
    assert [(row.source, row.batch, row.destination) for row in rows] == [
        (0, 3, 1),
        (0, 4, 1),
        (2, 2, 1),
        (2, 3, 1),
        (2, 4, 1),
    ]
    by_turns = await store.pending_transit(wanted, 2, 10_000)
    assert ([(row.source, row.batch) for row in by_turns.rows], by_turns.is_more) == ([(0, 3), (2, 2)], True)
    for size_max, batches in ((1, [(0, 3)]), (len(rows[0].credits) + 1, [(0, 3), (2, 2)])):
        sized = await store.pending_transit(wanted, 100, size_max)
        assert ([(row.source, row.batch) for row in sized.rows], sized.is_more) == (batches, True)
    assert await store.transit_totals(rows[0]) == [("USD", 1)]
    assert await store.transit_totals(TransitRow(Partition(0), 2, Partition(2), "")) == [("USD", 3)]


async def test_the_cursors_of_the_last_batch_are_read_back(store: Store, scribe: Scribe) -> None:
    alice, _, _ = spread()
    scribe.state(0).cursors[Partition(3)] = 17
    await scribe.write(MAKE.open(alice))
    assert (await store.heads([Partition(0)]))[Partition(0)].cursors == {3: 17}


async def test_a_commit_of_several_partitions_is_written_whole_or_not_at_all(store: Store, scribe: Scribe) -> None:
    alice, _, carol = spread()
    scribe.decide(MAKE.open(alice), MAKE.open(carol))
    sealed: list[SealedBatch] = scribe.seal()
    stale = [replace(batch, batch=batch.batch + (batch.partition == 1)) for batch in sealed]
    with pytest.raises(StaleRead):
        await store.commit(stale)
    assert await store.accounts([alice, carol]) == []
