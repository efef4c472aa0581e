import pytest

from services.jobcoin_network.core.coins import coins_text, read_amount
from services.jobcoin_network.core.instances import (
    ALICE,
    BOB,
    BrokenList,
    CoinAddress,
    CoinMovement,
    Instance,
    InstanceName,
    Instances,
    NetworkBounds,
    NetworkRefusal,
    PlacedTransaction,
    Transaction,
    creation,
    genesis,
    instance_name,
)

NOW_MS = 1_700_000_000_000
CAROL = CoinAddress("Carol")
PUPPY, KITTEN = InstanceName("puppy"), InstanceName("kitten")


def move(sender: CoinAddress, recipient: CoinAddress, amount: str) -> CoinMovement:
    return CoinMovement(sender, recipient, read_amount(amount))


def fresh() -> Instance:
    return Instance(genesis(NOW_MS))


def applied(instance: Instance, movement: CoinMovement, now_ms: int = NOW_MS) -> Transaction:
    decision = instance.decide(movement, now_ms)
    assert isinstance(decision, Transaction)
    instance.append(decision)
    return decision


def test_a_fresh_instance_holds_what_alice_was_given_and_sent_to_bob() -> None:
    instance = fresh()
    created, sent = instance.transactions()
    assert (created.movement, created.movement.sender) == (creation(ALICE), None)
    assert sent.movement == move(ALICE, BOB, "12.5")
    assert sent.timestamp_ms - created.timestamp_ms == 60
    assert (coins_text(instance.balance(ALICE)), coins_text(instance.balance(BOB))) == ("37.5", "12.5")


def test_the_last_coin_may_be_sent_and_not_a_grain_more() -> None:
    instance = fresh()
    grain = "0." + "0" * 39 + "1"
    assert (
        instance.decide(move(BOB, CAROL, "12.5000000000000000000000000000000000001"), NOW_MS)
        is NetworkRefusal.INSUFFICIENT_FUNDS
    )
    applied(instance, move(BOB, CAROL, "12.5"))
    assert instance.balance(BOB) == 0
    assert instance.decide(move(BOB, CAROL, grain), NOW_MS) is NetworkRefusal.INSUFFICIENT_FUNDS


def test_a_refused_movement_leaves_no_trace() -> None:
    instance = fresh()
    before = (list(instance.transactions()), instance.balances())
    instance.decide(move(CAROL, ALICE, "1"), NOW_MS)
    assert (list(instance.transactions()), instance.balances()) == before


def test_an_address_differs_from_another_by_case() -> None:
    assert fresh().balance(CoinAddress("alice")) == 0


def test_a_transfer_to_oneself_changes_no_balance_and_is_listed_once() -> None:
    instance = fresh()
    applied(instance, move(ALICE, ALICE, "37.5"))
    assert coins_text(instance.balance(ALICE)) == "37.5"
    assert instance.positions(ALICE) == [0, 1, 2]
    assert instance.decide(move(ALICE, ALICE, "37.6"), NOW_MS) is NetworkRefusal.INSUFFICIENT_FUNDS


def test_time_never_goes_back_when_the_clock_does() -> None:
    instance = fresh()
    assert applied(instance, creation(CAROL), NOW_MS + 500).timestamp_ms == NOW_MS + 500
    assert applied(instance, creation(CAROL), NOW_MS - 9_000).timestamp_ms == NOW_MS + 500


def test_a_list_in_which_someone_overspends_is_not_accepted() -> None:
    instance = fresh()
    with pytest.raises(BrokenList):
        instance.append(Transaction(NOW_MS, move(BOB, CAROL, "12.51")))


def test_a_list_whose_time_goes_back_is_not_accepted() -> None:
    instance = fresh()
    with pytest.raises(BrokenList):
        instance.append(Transaction(NOW_MS - 1, creation(CAROL)))


def test_instances_do_not_know_one_another() -> None:
    instances = Instances()
    instances.begin(PUPPY, NOW_MS)
    instances.begin(KITTEN, NOW_MS)
    row = instances.apply(PUPPY, move(ALICE, CAROL, "1"), NOW_MS)
    assert isinstance(row, PlacedTransaction)
    assert row.position == 2
    assert instances.by_name[PUPPY].balance(CAROL) > 0
    assert instances.by_name[KITTEN].balance(CAROL) == 0


def test_an_instance_is_made_once() -> None:
    instances = Instances()
    assert len(instances.begin(PUPPY, NOW_MS)) == 2
    assert instances.begin(PUPPY, NOW_MS + 5) == ()


def test_instances_are_rebuilt_from_their_transactions() -> None:
    instances = Instances()
    added = instances.begin(PUPPY, NOW_MS), (instances.apply(PUPPY, creation(CAROL), NOW_MS),)
    placed = [
        row
        for part in added
        if not isinstance(part, NetworkRefusal)
        for row in part
        if isinstance(row, PlacedTransaction)
    ]
    assert len(placed) == 3
    again = Instances(placed)
    assert again.by_name[PUPPY].balances() == instances.by_name[PUPPY].balances()
    assert again.by_name[PUPPY].transactions() == instances.by_name[PUPPY].transactions()


def test_the_network_is_bounded_and_says_when_it_is_full() -> None:
    instances = Instances(bounds=NetworkBounds(instances_max=1, transactions_max=3))
    instances.begin(PUPPY, NOW_MS)
    assert instances.begin(KITTEN, NOW_MS) is NetworkRefusal.NETWORK_FULL
    assert isinstance(instances.apply(PUPPY, creation(CAROL), NOW_MS), PlacedTransaction)
    assert instances.apply(PUPPY, creation(CAROL), NOW_MS) is NetworkRefusal.NETWORK_FULL
    assert coins_text(instances.by_name[PUPPY].balance(CAROL)) == "50"


@pytest.mark.parametrize("name", ["", "a" * 65, "a/b", "-a", "é", "a.b", "a b", "livez", "readyz", "metrics", "a\n"])
def test_a_name_that_no_instance_may_bear(name: str) -> None:
    assert instance_name(name) is None


@pytest.mark.parametrize("name", ["puppy", "deputize-green", "A1", "x_y", "a" * 64])
def test_a_name_that_an_instance_may_bear(name: str) -> None:
    assert instance_name(name) == name
