from collections.abc import Iterable
from types import SimpleNamespace
from typing import cast

import pytest

from services.jobcoin_network.core.coins import coins_text, read_amount
from services.jobcoin_network.core.instances import (
    ALICE,
    BOB,
    BrokenList,
    Instance,
    InsufficientFundsError,
    creation,
    genesis,
    instance_name,
)
from services.jobcoin_network.core.transactions import CoinAddress, CoinMovement, InstanceName, Transaction
from services.jobcoin_network.network import Network, NetworkFullError
from services.jobcoin_network.store import SqliteStore

NOW_MS = 1_700_000_000_000
CAROL = CoinAddress("Carol")
PUPPY, KITTEN = InstanceName("puppy"), InstanceName("kitten")


def move(sender: CoinAddress, recipient: CoinAddress, amount: str) -> CoinMovement:
    return CoinMovement(sender, recipient, read_amount(amount))


def fresh() -> Instance:
    return Instance(PUPPY, genesis(PUPPY, NOW_MS))


def applied(instance: Instance, movement: CoinMovement, now_ms: int = NOW_MS) -> Transaction:
    transaction = instance.decide(movement, now_ms)
    instance.append(transaction)
    return transaction


def refused(instance: Instance, movement: CoinMovement) -> bool:
    with pytest.raises(InsufficientFundsError):
        instance.decide(movement, NOW_MS)
    return True


def network(kept: Iterable[Transaction] = (), **bounds: int) -> Network:
    store = cast("SqliteStore", SimpleNamespace(transactions=lambda: kept))
    return Network(store, lambda: NOW_MS, on_fault=lambda: None, **bounds)


def test_a_fresh_instance_holds_what_alice_was_given_and_sent_to_bob() -> None:
    instance = fresh()
    created, sent = genesis(PUPPY, NOW_MS)
    assert (created.movement, created.movement.sender) == (creation(ALICE), None)
    assert sent.movement == move(ALICE, BOB, "12.5")
    assert sent.timestamp_ms - created.timestamp_ms == 60
    assert [(name, coins_text(units)) for name, units in instance.balances()] == [(ALICE, "37.5"), (BOB, "12.5")]


def test_the_last_coin_may_be_sent_and_not_a_grain_more() -> None:
    instance = fresh()
    grain = "0." + "0" * 39 + "1"
    assert refused(instance, move(BOB, CAROL, "12.5000000000000000000000000000000000001"))
    applied(instance, move(BOB, CAROL, "12.5"))
    assert instance.balance(BOB) == 0
    assert refused(instance, move(BOB, CAROL, grain))


def test_a_refused_movement_leaves_no_trace() -> None:
    instance = fresh()
    before = (len(instance.rows), dict(instance.balances()))
    assert refused(instance, move(CAROL, ALICE, "1"))
    assert (len(instance.rows), dict(instance.balances())) == before


def test_an_address_differs_from_another_by_case() -> None:
    assert fresh().balance(CoinAddress("alice")) == 0


def test_a_transfer_to_oneself_changes_no_balance_and_is_listed_once() -> None:
    instance = fresh()
    applied(instance, move(ALICE, ALICE, "37.5"))
    assert coins_text(instance.balance(ALICE)) == "37.5"
    assert list(instance.positions(ALICE)) == [0, 1, 2]
    applied(instance, move(ALICE, CAROL, "1"))
    applied(instance, move(CAROL, CAROL, "1"))
    applied(instance, move(CAROL, ALICE, "0.5"))
    assert [list(instance.positions(each)) for each in (ALICE, BOB, CAROL)] == [[0, 1, 2, 3, 5], [1], [3, 4, 5]]
    assert list(instance.positions(CoinAddress("nobody"))) == []
    assert refused(instance, move(ALICE, ALICE, "37.6"))


def test_time_never_goes_back_when_the_clock_does() -> None:
    instance = fresh()
    assert applied(instance, creation(CAROL), NOW_MS + 500).timestamp_ms == NOW_MS + 500
    assert applied(instance, creation(CAROL), NOW_MS - 9_000).timestamp_ms == NOW_MS + 500


def test_a_list_in_which_someone_overspends_is_not_accepted() -> None:
    instance = fresh()
    with pytest.raises(BrokenList):
        instance.append(Transaction(PUPPY, 2, NOW_MS, move(BOB, CAROL, "12.51")))


def test_a_list_whose_time_goes_back_is_not_accepted() -> None:
    instance = fresh()
    with pytest.raises(BrokenList):
        instance.append(Transaction(PUPPY, 2, NOW_MS - 1, creation(CAROL)))


def test_instances_do_not_know_one_another() -> None:
    both = network()
    both.apply(PUPPY, move(ALICE, CAROL, "1"))
    assert [len(both.instance(name).rows) for name in (PUPPY, KITTEN)] == [3, 2]
    assert both.instance(PUPPY).balance(CAROL) > 0
    assert both.instance(KITTEN).balance(CAROL) == 0


def test_an_instance_is_made_once() -> None:
    asked = network()
    assert asked.instance(PUPPY) is asked.instance(PUPPY)
    assert len(asked.instance(PUPPY).rows) == 2


def test_instances_are_rebuilt_from_their_transactions() -> None:
    first = fresh()
    kept = [*genesis(PUPPY, NOW_MS), applied(first, creation(CAROL), NOW_MS + 7)]
    assert [transaction.position for transaction in kept] == [0, 1, 2]
    again = network(kept).instance(PUPPY)
    assert dict(again.balances()) == dict(first.balances())
    assert [again.rows.row(place) for place in range(3)] == [first.rows.row(place) for place in range(3)]
    assert (again.first_ms, again.last_ms) == (NOW_MS - 60, NOW_MS + 7)


def test_the_network_is_bounded_and_says_when_it_is_full() -> None:
    bounded = network(instances_max=1, transactions_max=3)
    bounded.instance(PUPPY)
    with pytest.raises(NetworkFullError):
        bounded.instance(KITTEN)
    bounded.apply(PUPPY, creation(CAROL))
    with pytest.raises(NetworkFullError):
        bounded.apply(PUPPY, creation(CAROL))
    assert coins_text(bounded.instance(PUPPY).balance(CAROL)) == "50"
    with pytest.raises(NetworkFullError):
        network(transactions_max=1).instance(PUPPY)
    bounded = network(rows_bytes_max=300)
    bounded.apply(PUPPY, creation(CoinAddress("x" * 300)))
    with pytest.raises(NetworkFullError):
        bounded.apply(PUPPY, creation(CAROL))


@pytest.mark.parametrize("name", ["", "a" * 65, "a/b", "-a", "é", "a.b", "a b", "livez", "readyz", "metrics", "a\n"])
def test_an_invalid_instance_name_is_refused(name: str) -> None:
    assert instance_name(name) is None


@pytest.mark.parametrize("name", ["puppy", "deputize-green", "A1", "x_y", "a" * 64])
def test_a_valid_instance_name_is_accepted(name: str) -> None:
    assert instance_name(name) == name
