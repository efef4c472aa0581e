"""ports.Store, who may write: fences, epochs, leases and workers, in the twin and in PostgreSQL."""

from dataclasses import replace

import pytest

from services.ledger_worker.ports import CommitUnknown, Fenced, Lease, Store, Waiting
from shared.domain.ids import Partition
from tests.contract.conditions import eventually_async
from tests.contract.ledgers import MAKE, Ledger, spread
from tests.contract.scribe import PARTITIONS, Scribe

MINUTE_S = 60.0


async def test_who_does_not_own_every_partition_under_its_epoch_writes_nothing(
    ledger: Ledger, store: Store, scribe: Scribe
) -> None:
    alice, _, carol = spread()
    await scribe.write(MAKE.open(alice), MAKE.open(carol))
    scribe.decide(MAKE.deposit(alice, 1), MAKE.deposit(carol, 1))
    sealed = scribe.seal()
    await store.release([scribe.owned.leases[Partition(1)]])
    with pytest.raises(Fenced):
        await store.commit(sealed)
    other = ledger.store("two")
    taken = await other.acquire(MINUTE_S)
    assert taken is not None
    assert taken.partition == 1
    with pytest.raises(Fenced):
        await store.commit(sealed)
    with pytest.raises(Fenced):
        await other.commit([replace(batch, epoch=taken.epoch) for batch in sealed])
    assert [account.balance for account in await store.accounts([alice, carol])] == [0, 0]


async def test_an_epoch_that_was_raised_fences_what_was_sealed_before(store: Store, scribe: Scribe) -> None:
    alice, _, _ = spread()
    await scribe.write(MAKE.open(alice))
    scribe.decide(MAKE.deposit(alice, 1))
    sealed = scribe.seal()
    raised = await store.raise_epochs(scribe.owned.leases.values())
    assert {lease.partition: lease.epoch for lease in raised} == dict.fromkeys(range(PARTITIONS), 2)
    with pytest.raises(Fenced):
        await store.commit(sealed)
    await store.commit([replace(batch, epoch=2) for batch in sealed])


async def test_epochs_can_be_raised_again_when_the_first_answer_was_lost(
    ledger: Ledger, store: Store, scribe: Scribe
) -> None:
    before = list(scribe.owned.leases.values())
    await store.raise_epochs(before)
    assert {lease.epoch for lease in await store.raise_epochs(before)} == {3}
    assert await ledger.store("two").raise_epochs(before) == []


async def test_a_connection_lost_at_commit_is_an_unknown_end_and_the_next_one_works(
    ledger: Ledger,
    store: Store,
    scribe: Scribe,
) -> None:
    alice, _, _ = spread()
    await scribe.write(MAKE.open(alice))
    scribe.decide(MAKE.deposit(alice, 1))
    sealed = scribe.seal()
    with pytest.raises(CommitUnknown):
        await ledger.lost_while(store, store.commit(sealed))
    assert len(await store.raise_epochs(scribe.owned.leases.values())) == PARTITIONS
    with pytest.raises(Fenced):
        await store.commit(sealed)
    assert (await store.heads([Partition(0)]))[Partition(0)].batch == 1


async def test_a_lease_is_one_workers_until_it_runs_out(ledger: Ledger, store: Store) -> None:
    first = await store.acquire(0.2)
    assert first == Lease(Partition(0), 1)
    other = ledger.store("two")
    rest = [await other.acquire(MINUTE_S) for _ in range(PARTITIONS - 1)]
    assert [lease.partition for lease in rest if lease] == [1, 2, 3]
    taken = await eventually_async(lambda: other.acquire(MINUTE_S))
    assert taken == Lease(Partition(0), 2)
    assert first is not None
    assert await store.renew([first], MINUTE_S) == set()


async def test_a_renewal_extends_what_is_still_ours_under_that_epoch(
    ledger: Ledger, store: Store, scribe: Scribe
) -> None:
    leases = scribe.owned.leases
    assert await store.renew(leases.values(), MINUTE_S) == {Partition(number) for number in range(PARTITIONS)}
    assert await store.renew([Lease(Partition(0), 7)], MINUTE_S) == set()
    assert await ledger.store("two").renew(leases.values(), MINUTE_S) == set()


async def test_a_renewal_says_why_nothing_is_decided_until_the_partition_goes_on_or_changes_hands(
    ledger: Ledger, store: Store, scribe: Scribe
) -> None:
    leases = list(scribe.owned.leases.values())
    reasons = {1: Waiting("a reason", 1_000.0), 2: Waiting("another", 2_000.0), 3: Waiting("a third")}
    await store.renew(leases, MINUTE_S, {Partition(number): each for number, each in reasons.items()})
    await store.renew(leases, MINUTE_S)
    assert await ledger.waiting_for() == [None, "a reason", "another", "a third"]
    ages_s = await ledger.waiting_s()
    assert (ages_s[0], ages_s[3]) == (0, 0)
    assert 1_000 <= ages_s[1] < 1_060
    assert 2_000 <= ages_s[2] < 2_060
    await store.renew(leases[:2], MINUTE_S, {})
    assert await ledger.waiting_for() == [None, None, "another", "a third"]
    assert (await ledger.waiting_s())[1] == 0
    await store.release(leases[2:3])
    await store.renew(leases[3:], -1.0)
    await ledger.store("two").acquire(MINUTE_S)
    await ledger.store("two").acquire(MINUTE_S)
    assert await ledger.waiting_for() == [None] * PARTITIONS
    assert await ledger.waiting_s() == [0] * PARTITIONS


async def test_what_was_given_back_is_free_at_once(ledger: Ledger, store: Store, scribe: Scribe) -> None:
    lease = scribe.owned.leases[Partition(2)]
    await ledger.store("two").release([lease])
    assert await ledger.store("two").acquire(MINUTE_S) is None
    await store.release([lease])
    assert await ledger.store("two").acquire(MINUTE_S) == Lease(Partition(2), lease.epoch + 1)


async def test_a_partition_whose_epoch_was_raised_meanwhile_is_given_back_too(
    ledger: Ledger, store: Store, scribe: Scribe
) -> None:
    lease = scribe.owned.leases[Partition(2)]
    await store.raise_epochs([lease])
    await store.release([lease])
    assert await ledger.store("two").acquire(MINUTE_S) == Lease(Partition(2), lease.epoch + 2)


async def test_a_worker_takes_again_what_is_its_own_without_its_knowledge_and_nobody_else_does(
    ledger: Ledger, store: Store, scribe: Scribe
) -> None:
    held = [partition for partition in scribe.owned.leases if partition != 1]
    assert await ledger.store("two").acquire(MINUTE_S, [], []) is None
    assert await store.acquire(MINUTE_S) is None
    assert await store.acquire(MINUTE_S, [], held) == Lease(Partition(1), scribe.owned.leases[Partition(1)].epoch + 1)
    assert await store.acquire(MINUTE_S, [], [*held, Partition(1)]) is None


async def test_workers_count_as_alive_until_they_leave_or_fall_silent(ledger: Ledger, store: Store) -> None:
    assert await store.heartbeat(MINUTE_S) == ["one"]
    other = ledger.store("two")
    assert await other.heartbeat(MINUTE_S) == ["one", "two"]
    await store.leave()
    assert await other.heartbeat(MINUTE_S) == ["two"]
    third = ledger.store("three")

    async def alone() -> bool:
        return await third.heartbeat(0.1) == ["three"]

    assert await eventually_async(alone)


async def test_who_is_late_but_holds_no_row_keeps_its_connection_and_meets_the_fence(
    ledger: Ledger, store: Store, scribe: Scribe
) -> None:
    alice, _, _ = spread()
    await scribe.write(MAKE.open(alice))
    scribe.decide(MAKE.deposit(alice, 1))
    sealed = scribe.seal()
    await store.renew(scribe.owned.leases.values(), -1.0)  # they have run out a second ago
    other = ledger.store("two")
    assert await other.free_stuck() == 0
    assert await other.acquire(MINUTE_S) == Lease(Partition(0), 2)
    with pytest.raises(Fenced):
        await store.commit(sealed)


async def test_a_lease_shows_whether_its_worker_is_connected_and_each_renewal(
    ledger: Ledger, store: Store, scribe: Scribe
) -> None:
    other = ledger.store("two")
    leases = list(scribe.owned.leases.values())
    before = await other.foreign_leases()
    assert [seen.lease for seen in before] == leases
    assert not any(seen.is_absent for seen in before)
    assert await store.foreign_leases() == []
    assert await other.foreign_leases() == before
    await store.renew(leases[:1], 2 * MINUTE_S)
    assert [seen.renewal != old.renewal for seen, old in zip(await other.foreign_leases(), before, strict=True)] == [
        True,
        *[False] * (PARTITIONS - 1),
    ]
    await ledger.kill(store)

    async def are_absent() -> bool:
        return all(seen.is_absent for seen in await other.foreign_leases())

    assert await eventually_async(are_absent)
    assert await other.heartbeat(MINUTE_S) == ["two"]


async def test_a_lease_that_has_ended_is_taken_under_exactly_the_epoch_that_was_seen(
    ledger: Ledger, scribe: Scribe
) -> None:
    other = ledger.store("two")
    first = scribe.owned.leases[Partition(0)]
    assert await other.acquire(MINUTE_S, [Lease(Partition(0), first.epoch - 1), Lease(Partition(1), 7)]) is None
    assert await other.acquire(MINUTE_S, [first]) == Lease(Partition(0), first.epoch + 1)
    assert await other.acquire(MINUTE_S, [first]) is None
