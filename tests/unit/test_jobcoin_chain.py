import pytest

from services.jobcoin_network.core.chain import (
    ALICE,
    BOB,
    Address,
    Chain,
    InvariantBroken,
    Movement,
    Refusal,
    Transaction,
    creation,
    genesis,
)
from services.jobcoin_network.core.coins import coins_text, read_amount
from services.jobcoin_network.core.world import Bounds, InstanceName, Row, World, instance_name

NOW_MS = 1_700_000_000_000
CAROL = Address("Carol")
PUPPY, KITTEN = InstanceName("puppy"), InstanceName("kitten")


def move(sender: Address, recipient: Address, amount: str) -> Movement:
    return Movement(sender, recipient, read_amount(amount))


def fresh() -> Chain:
    return Chain(genesis(NOW_MS))


def applied(chain: Chain, movement: Movement, now_ms: int = NOW_MS) -> Transaction:
    decision = chain.decide(movement, now_ms)
    assert isinstance(decision, Transaction)
    chain.append(decision)
    return decision


def test_a_fresh_instance_holds_what_alice_was_given_and_sent_to_bob() -> None:
    chain = fresh()
    created, sent = chain.transactions()
    assert (created.movement, created.movement.sender) == (creation(ALICE), None)
    assert sent.movement == move(ALICE, BOB, "12.5")
    assert sent.timestamp_ms - created.timestamp_ms == 60
    assert (coins_text(chain.balance(ALICE)), coins_text(chain.balance(BOB))) == ("37.5", "12.5")


def test_the_last_coin_may_be_sent_and_not_a_grain_more() -> None:
    chain = fresh()
    grain = "0." + "0" * 39 + "1"
    assert (
        chain.decide(move(BOB, CAROL, "12.5000000000000000000000000000000000001"), NOW_MS) is Refusal.INSUFFICIENT_FUNDS
    )
    applied(chain, move(BOB, CAROL, "12.5"))
    assert chain.balance(BOB) == 0
    assert chain.decide(move(BOB, CAROL, grain), NOW_MS) is Refusal.INSUFFICIENT_FUNDS


def test_a_refused_movement_leaves_no_trace() -> None:
    chain = fresh()
    before = (list(chain.transactions()), chain.balances())
    chain.decide(move(CAROL, ALICE, "1"), NOW_MS)
    assert (list(chain.transactions()), chain.balances()) == before


def test_an_address_differs_from_another_by_case() -> None:
    assert fresh().balance(Address("alice")) == 0


def test_a_transfer_to_oneself_changes_no_balance_and_is_listed_once() -> None:
    chain = fresh()
    applied(chain, move(ALICE, ALICE, "37.5"))
    assert coins_text(chain.balance(ALICE)) == "37.5"
    assert chain.positions(ALICE) == [0, 1, 2]
    assert chain.decide(move(ALICE, ALICE, "37.6"), NOW_MS) is Refusal.INSUFFICIENT_FUNDS


def test_time_never_goes_back_when_the_clock_does() -> None:
    chain = fresh()
    assert applied(chain, creation(CAROL), NOW_MS + 500).timestamp_ms == NOW_MS + 500
    assert applied(chain, creation(CAROL), NOW_MS - 9_000).timestamp_ms == NOW_MS + 500


def test_a_list_in_which_someone_overspends_is_not_accepted() -> None:
    chain = fresh()
    with pytest.raises(InvariantBroken):
        chain.append(Transaction(NOW_MS, move(BOB, CAROL, "12.51")))


def test_a_list_whose_time_goes_back_is_not_accepted() -> None:
    chain = fresh()
    with pytest.raises(InvariantBroken):
        chain.append(Transaction(NOW_MS - 1, creation(CAROL)))


def test_each_instance_is_a_world_of_its_own() -> None:
    world = World()
    world.begin(PUPPY, NOW_MS)
    world.begin(KITTEN, NOW_MS)
    row = world.apply(PUPPY, move(ALICE, CAROL, "1"), NOW_MS)
    assert isinstance(row, Row)
    assert row.position == 2
    assert world.chains[PUPPY].balance(CAROL) > 0
    assert world.chains[KITTEN].balance(CAROL) == 0


def test_an_instance_is_made_once() -> None:
    world = World()
    assert len(world.begin(PUPPY, NOW_MS)) == 2
    assert world.begin(PUPPY, NOW_MS + 5) == ()


def test_a_world_is_rebuilt_from_its_rows() -> None:
    world = World()
    added = world.begin(PUPPY, NOW_MS), (world.apply(PUPPY, creation(CAROL), NOW_MS),)
    rows = [row for part in added if not isinstance(part, Refusal) for row in part if isinstance(row, Row)]
    assert len(rows) == 3
    again = World(rows)
    assert again.chains[PUPPY].balances() == world.chains[PUPPY].balances()
    assert again.chains[PUPPY].transactions() == world.chains[PUPPY].transactions()


def test_the_world_is_bounded_and_says_when_it_is_full() -> None:
    world = World(bounds=Bounds(instances_max=1, transactions_max=3))
    world.begin(PUPPY, NOW_MS)
    assert world.begin(KITTEN, NOW_MS) is Refusal.NETWORK_FULL
    assert isinstance(world.apply(PUPPY, creation(CAROL), NOW_MS), Row)
    assert world.apply(PUPPY, creation(CAROL), NOW_MS) is Refusal.NETWORK_FULL
    assert coins_text(world.chains[PUPPY].balance(CAROL)) == "50"


@pytest.mark.parametrize("name", ["", "a" * 65, "a/b", "-a", "é", "a.b", "a b", "livez", "readyz", "metrics", "a\n"])
def test_a_name_that_no_instance_may_bear(name: str) -> None:
    assert instance_name(name) is None


@pytest.mark.parametrize("name", ["puppy", "deputize-green", "A1", "x_y", "a" * 64])
def test_a_name_that_an_instance_may_bear(name: str) -> None:
    assert instance_name(name) == name
