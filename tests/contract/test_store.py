"""ports.Store: what the twin promises is what PostgreSQL does, in one statement and by COPY."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from services.ledger_worker.core.accounts import Status
from services.ledger_worker.ports import (
    CommitUnknown,
    Fenced,
    Lease,
    PictureStale,
    RepeatFound,
    RowRefused,
    Sealed,
    Store,
    StoreFault,
    TransitRow,
)
from services.ledger_worker.store import PostgresStore
from shared.db import connect
from shared.ids import AccountId, AssetCode, HoldId, Partition
from shared.messages import Command
from shared.rejections import Rejection
from tests.backends.databases import Database
from tests.builders import Commands, account_in, command_id
from tests.contract.conditions import eventually_async
from tests.contract.scribe import PARTITIONS, Scribe
from tests.twins.clock import LoopClock
from tests.twins.journal import Journal
from tests.twins.store import Fault, MemoryStore

MAKE = Commands()
MINUTE_S = 60.0
END_WHO_WAITS = """
SELECT bool_or(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE datname = current_database() AND usename = 'tellerline_worker' AND wait_event_type = 'Lock'
"""


@dataclass(slots=True)
class TwinLedger:
    """Many workers' stores on one journal in memory."""

    journal: Journal = field(default_factory=lambda: Journal(PARTITIONS, LoopClock().now_us))

    def store(self, owner: str) -> Store:
        return MemoryStore(self.journal, owner)

    async def lost_while(self, store: Store, commit: Coroutine[Any, Any, dict[Partition, int]]) -> dict[Partition, int]:
        """Awaits the commit, whose connection is lost meanwhile."""
        assert isinstance(store, MemoryStore)
        store.fail_next("commit", Fault.LOST_BEFORE)
        return await commit

    async def close(self) -> None:
        pass


@dataclass(slots=True)
class PostgresLedger:
    """The same on a real one."""

    database: Database
    copy_operations_min: int
    stores: list[PostgresStore] = field(default_factory=list[PostgresStore])

    def store(self, owner: str) -> Store:
        self.stores.append(PostgresStore(self.database.worker, owner, copy_operations_min=self.copy_operations_min))
        return self.stores[-1]

    async def lost_while(self, _: Store, commit: Coroutine[Any, Any, dict[Partition, int]]) -> dict[Partition, int]:
        """Awaits the commit, whose connection is lost while it waits for a lock that we hold."""
        connection = await connect(self.database.owner, application="tests")
        try:
            async with connection.transaction(), asyncio.TaskGroup() as group:
                await connection.execute("SELECT * FROM ledger.partitions FOR UPDATE")
                committing = group.create_task(_fault_of(commit))
                await eventually_async(lambda: connection.fetchval(END_WHO_WAITS))
                fault = await committing
        finally:
            await connection.close()
        raise fault

    async def close(self) -> None:
        for store in self.stores:
            await store.close()


async def _fault_of(commit: Coroutine[Any, Any, object]) -> Exception:
    try:
        await commit
    except StoreFault as fault:
        return fault
    return AssertionError("the commit went well")


Ledger = TwinLedger | PostgresLedger


@pytest.fixture(params=["twin", "one statement", "copy"])
def ledger_made(request: pytest.FixtureRequest) -> Ledger:
    if request.param == "twin":
        return TwinLedger()
    database: Database = request.getfixturevalue("database")
    return PostgresLedger(database, 0 if request.param == "copy" else 1_000_000)


@pytest.fixture
async def ledger(ledger_made: Ledger) -> AsyncIterator[Ledger]:
    yield ledger_made
    await ledger_made.close()


@pytest.fixture
async def store(ledger: Ledger) -> Store:
    return ledger.store("one")


@pytest.fixture
async def scribe(store: Store) -> Scribe:
    return await Scribe(store, "one").begin()


def spread() -> tuple[AccountId, AccountId, AccountId]:
    """Two accounts of partition 0 and one of partition 1."""
    return account_in(0), account_in(0), account_in(1)


async def test_what_a_commit_wrote_is_read_back(store: Store, scribe: Scribe) -> None:
    alice, bob, _ = spread()
    hold = MAKE.hold(alice, 30)
    refused = MAKE.move(bob, alice, 1)
    await scribe.write(MAKE.open(alice, overdraft_limit=7), MAKE.open(bob), MAKE.deposit(alice, 100), hold, refused)
    [(account, partition)] = await store.accounts([alice, AccountId("nobody")])
    assert (account.balance, account.held, account.limit, account.seq, partition) == (100, 30, 7, 3, 0)
    assert (account.asset, account.owner, account.status, account.is_system) == ("USD", "alice", Status.OPEN, False)
    [placed] = await store.holds([hold.hold, HoldId(command_id())])
    assert (placed.account, placed.amount, placed.ended, placed.operation) == (alice, 30, None, hold.id)
    known = await store.known([hold.id, refused.id, command_id()])
    assert {identity: (each.fingerprint, each.code) for identity, each in known.items()} == {
        hold.id: (hold.fingerprint, None), refused.id: (refused.fingerprint, Rejection.INSUFFICIENT_FUNDS),
    }
    assert {partition: head.batch for partition, head in (await store.heads([Partition(0), Partition(3)])).items()} == {0: 1, 3: 0}


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
    [(account, _)] = await store.accounts([alice])
    assert (account.status, account.limit, account.seq) == (Status.FROZEN, 5, 2)
    assert (await store.assets())[AssetCode("GOLD")] == 3


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


async def test_an_operation_that_is_in_the_journal_is_a_repeat_and_nothing_is_written(store: Store, scribe: Scribe) -> None:
    alice, _, carol = spread()
    await scribe.write(MAKE.open(alice), MAKE.open(carol))
    deposit = MAKE.deposit(alice, 1, key="again")
    await scribe.write(deposit)
    scribe.owned.world.recent.clear()
    scribe.decide(deposit, MAKE.deposit(carol, 1))
    with pytest.raises(RepeatFound):
        await store.commit("one", scribe.seal())
    assert [account.balance for account, _ in await store.accounts([alice, carol])] in ([1, 0], [0, 1])


@pytest.mark.parametrize("batch", [1, 3])
async def test_a_batch_that_does_not_follow_the_last_is_stale(store: Store, scribe: Scribe, batch: int) -> None:
    alice, _, _ = spread()
    await scribe.write(MAKE.open(alice))
    scribe.line(0).batch = batch - 1
    scribe.decide(MAKE.deposit(alice, 1))
    with pytest.raises(PictureStale):
        await store.commit("one", scribe.seal())
    assert (await store.heads([Partition(0)]))[Partition(0)].batch == 1


async def test_an_entry_whose_number_is_taken_is_stale(store: Store, scribe: Scribe) -> None:
    alice, _, _ = spread()
    await scribe.write(MAKE.open(alice), MAKE.deposit(alice, 10))
    scribe.line(0).accounts[alice].seq -= 1
    scribe.decide(MAKE.deposit(alice, 1))
    with pytest.raises(PictureStale):
        await store.commit("one", scribe.seal())


async def test_an_account_or_a_hold_that_exists_is_stale(store: Store, scribe: Scribe) -> None:
    alice, _, _ = spread()
    hold = MAKE.hold(alice, 1)
    await scribe.write(MAKE.open(alice), MAKE.deposit(alice, 10), hold)
    again: list[Command] = [MAKE.open(alice), MAKE.hold(alice, 1).model_copy(update={"hold": hold.hold})]
    for command in again:
        scribe.line(0).holds.clear()
        if command.kind == "account.create.v1":
            account = scribe.line(0).accounts.pop(alice)
            scribe.decide(command)
            scribe.line(0).accounts[alice] = account
        else:
            scribe.decide(command)
        with pytest.raises(PictureStale):
            await store.commit("one", scribe.seal())
        scribe.line(0).batch -= 1


@pytest.mark.parametrize("change", [{"reference": "a NUL: \0"}, {"metadata": "\0"}, {"id": "not-a-uuid"}])
async def test_a_value_that_no_column_takes_is_refused_and_the_store_goes_on(
    store: Store, scribe: Scribe, change: dict[str, str],
) -> None:
    alice, _, _ = spread()
    await scribe.write(MAKE.open(alice))
    scribe.decide(MAKE.deposit(alice, 1).model_copy(update=change))
    with pytest.raises(RowRefused):
        await store.commit("one", scribe.seal())
    scribe.line(0).batch -= 1
    scribe.line(0).accounts.clear()
    [(account, _)] = await store.accounts([alice])
    scribe.line(0).accounts[alice] = account
    await scribe.write(MAKE.deposit(alice, 2))
    assert [account.balance for account, _ in await store.accounts([alice])] == [2]


async def test_entries_that_do_not_sum_to_zero_are_refused(store: Store, scribe: Scribe) -> None:
    alice, _, _ = spread()
    await scribe.write(MAKE.open(alice))
    scribe.line(0).open_draft().enter(scribe.line(0).accounts[alice], command_id(), 1)
    with pytest.raises(RowRefused):
        await store.commit("one", scribe.seal())


async def test_funds_below_zero_are_refused(store: Store, scribe: Scribe) -> None:
    alice, bob, _ = spread()
    await scribe.write(MAKE.open(alice), MAKE.open(bob))
    draft, operation = scribe.line(0).open_draft(), command_id()
    draft.enter(scribe.line(0).accounts[alice], operation, -1)
    draft.enter(scribe.line(0).accounts[bob], operation, 1)
    with pytest.raises(RowRefused):
        await store.commit("one", scribe.seal())


async def test_who_does_not_own_every_partition_under_its_epoch_writes_nothing(ledger: Ledger, store: Store, scribe: Scribe) -> None:
    alice, _, carol = spread()
    await scribe.write(MAKE.open(alice), MAKE.open(carol))
    scribe.decide(MAKE.deposit(alice, 1), MAKE.deposit(carol, 1))
    sealed = scribe.seal()
    await store.release("one", [scribe.owned.leases[Partition(1)]])
    with pytest.raises(Fenced):
        await store.commit("one", sealed)
    taken = await ledger.store("two").acquire("two", MINUTE_S)
    assert taken is not None
    assert taken.partition == 1
    with pytest.raises(Fenced):
        await store.commit("one", sealed)
    with pytest.raises(Fenced):
        await store.commit("two", [replace(batch, epoch=taken.epoch) for batch in sealed])
    assert [account.balance for account, _ in await store.accounts([alice, carol])] == [0, 0]


async def test_an_epoch_that_was_raised_fences_what_was_sealed_before(store: Store, scribe: Scribe) -> None:
    alice, _, _ = spread()
    await scribe.write(MAKE.open(alice))
    scribe.decide(MAKE.deposit(alice, 1))
    sealed = scribe.seal()
    raised = await store.raise_epochs("one", scribe.owned.leases.values())
    assert {lease.partition: lease.epoch for lease in raised} == dict.fromkeys(range(PARTITIONS), 2)
    with pytest.raises(Fenced):
        await store.commit("one", sealed)
    await store.commit("one", [replace(batch, epoch=2) for batch in sealed])


async def test_epochs_can_be_raised_again_when_the_first_answer_was_lost(store: Store, scribe: Scribe) -> None:
    before = list(scribe.owned.leases.values())
    await store.raise_epochs("one", before)
    assert {lease.epoch for lease in await store.raise_epochs("one", before)} == {3}
    assert await store.raise_epochs("two", before) == []


async def test_a_connection_lost_at_commit_is_an_unknown_end_and_the_next_one_works(
    ledger: Ledger, store: Store, scribe: Scribe,
) -> None:
    alice, _, _ = spread()
    await scribe.write(MAKE.open(alice))
    scribe.decide(MAKE.deposit(alice, 1))
    sealed = scribe.seal()
    with pytest.raises(CommitUnknown):
        await ledger.lost_while(store, store.commit("one", sealed))
    assert len(await store.raise_epochs("one", scribe.owned.leases.values())) == PARTITIONS
    with pytest.raises(Fenced):
        await store.commit("one", sealed)
    assert (await store.heads([Partition(0)]))[Partition(0)].batch == 1


async def test_a_lease_is_one_workers_until_it_runs_out(ledger: Ledger, store: Store) -> None:
    first = await store.acquire("one", 0.2)
    assert first == Lease(Partition(0), 1)
    other = ledger.store("two")
    rest = [await other.acquire("two", MINUTE_S) for _ in range(PARTITIONS - 1)]
    assert [lease.partition for lease in rest if lease] == [1, 2, 3]
    taken = await eventually_async(lambda: other.acquire("two", MINUTE_S))
    assert taken == Lease(Partition(0), 2)
    assert await store.renew("one", [first], MINUTE_S) == set()


async def test_a_renewal_extends_what_is_still_ours_under_that_epoch(store: Store, scribe: Scribe) -> None:
    leases = scribe.owned.leases
    assert await store.renew("one", leases.values(), MINUTE_S) == {Partition(number) for number in range(PARTITIONS)}
    assert await store.renew("one", [Lease(Partition(0), 7)], MINUTE_S) == set()
    assert await store.renew("two", leases.values(), MINUTE_S) == set()


async def test_what_was_given_back_is_free_at_once(ledger: Ledger, store: Store, scribe: Scribe) -> None:
    lease = scribe.owned.leases[Partition(2)]
    await ledger.store("two").release("two", [lease])
    assert await ledger.store("two").acquire("two", MINUTE_S) is None
    await store.release("one", [lease])
    assert await ledger.store("two").acquire("two", MINUTE_S) == Lease(Partition(2), lease.epoch + 1)


async def test_workers_count_as_alive_until_they_leave_or_fall_silent(ledger: Ledger, store: Store) -> None:
    assert await store.heartbeat("one", MINUTE_S) == ["one"]
    other = ledger.store("two")
    assert await other.heartbeat("two", MINUTE_S) == ["one", "two"]
    await store.leave("one")
    assert await other.heartbeat("two", MINUTE_S) == ["two"]

    async def alone() -> bool:
        return await store.heartbeat("three", 0.1) == ["three"]

    assert await eventually_async(alone)


async def test_transit_rows_come_in_order_past_the_cursors_and_bounded(store: Store, scribe: Scribe) -> None:
    alice, bob, carol = spread()
    dave = account_in(2)
    await scribe.write(*(MAKE.open(who) for who in (alice, bob, carol, dave)), MAKE.deposit(alice, 100), MAKE.deposit(dave, 100))
    for _ in range(3):
        await scribe.write(MAKE.move(alice, carol, 1), MAKE.move(dave, carol, 2), MAKE.move(alice, dave, 3))
    wanted = [(Partition(1), Partition(0), 2), (Partition(1), Partition(2), 0), (Partition(1), Partition(3), 0)]
    rows = await store.pending_transit(wanted, 100)
    assert [(row.source, row.batch, row.destination) for row in rows] == [(0, 3, 1), (0, 4, 1), (2, 2, 1), (2, 3, 1), (2, 4, 1)]
    assert [row.batch for row in await store.pending_transit(wanted, 2)] == [3, 4]
    assert await store.transit_totals(rows[0]) == [("USD", 1)]
    assert await store.transit_totals(TransitRow(Partition(0), 2, Partition(2), "")) == [("USD", 3)]


async def test_the_cursors_of_the_last_batch_are_read_back(store: Store, scribe: Scribe) -> None:
    alice, _, _ = spread()
    scribe.line(0).cursors[Partition(3)] = 17
    await scribe.write(MAKE.open(alice))
    assert (await store.heads([Partition(0)]))[Partition(0)].cursors == {3: 17}


async def test_a_commit_of_several_partitions_is_written_whole_or_not_at_all(store: Store, scribe: Scribe) -> None:
    alice, _, carol = spread()
    scribe.decide(MAKE.open(alice), MAKE.open(carol))
    sealed: list[Sealed] = scribe.seal()
    stale = [replace(batch, batch=batch.batch + (batch.partition == 1)) for batch in sealed]
    with pytest.raises(PictureStale):
        await store.commit("one", stale)
    assert await store.accounts([alice, carol]) == []
