"""Coins are conserved, and no address ever owes any, whatever is asked of the network in whatever order."""

import json
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from services.jobcoin_network.core.coins import (
    COIN_SCALE,
    AmountMalformedError,
    AmountNotPositiveError,
    coins_text,
    read_amount,
)
from services.jobcoin_network.core.instances import CREATED, InsufficientFundsError, creation
from services.jobcoin_network.core.transactions import CoinAddress, CoinMovement, InstanceName, Transaction
from services.jobcoin_network.network import Network
from services.jobcoin_network.store import SqliteStore

INSTANCES = [InstanceName("puppy"), InstanceName("kitten")]
ADDRESSES = [CoinAddress(name) for name in ("Alice", "Bob", "alice", "50", "")]

amounts = st.one_of(
    st.sampled_from(["50", "37.5", "12.5", "0.1", "1e-40", ".5", "49.9999999999999999999999999999999999"]),
    st.decimals(min_value="0.0000000001", max_value="80", places=10).map(lambda amount: format(amount, "f")),
).map(read_amount)
movements = st.one_of(
    st.builds(creation, st.sampled_from(ADDRESSES)),
    st.builds(CoinMovement, st.sampled_from(ADDRESSES), st.sampled_from(ADDRESSES), amounts),
)
requests = st.tuples(st.sampled_from(INSTANCES), movements, st.integers(0, 10_000))


def network(kept: Iterable[Transaction], clock_ms: Callable[[], int]) -> Network:
    store = cast("SqliteStore", SimpleNamespace(transactions=lambda: kept))
    return Network(store, clock_ms, on_fault=lambda: None)


@given(st.lists(requests, max_size=60))
def test_coins_are_conserved_and_no_balance_is_negative(asked: list[tuple[InstanceName, CoinMovement, int]]) -> None:
    clock_ms = 0
    tried = network((), lambda: clock_ms)
    for name, movement, now_ms in asked:
        clock_ms = now_ms
        before = dict(tried.instance(name).balances())
        try:
            tried.apply(name, movement)
        except InsufficientFundsError:
            assert movement.sender is not None
            assert before.get(movement.sender, 0) < movement.amount.units
            assert dict(tried.instance(name).balances()) == before
    for instance in [tried.instance(name) for name in {name for name, _, _ in asked}]:
        rows: list[dict[str, str]] = json.loads(b"".join(instance.rows.list_chunks(instance.rows.list_bytes())))
        created = sum(CREATED.units for row in rows if "fromAddress" not in row)
        balances = dict(instance.balances())
        assert sum(balances.values()) == created
        assert min(balances.values()) >= 0
        times = [row["timestamp"] for row in rows]
        assert times == sorted(times)
        for address, units in balances.items():
            own = [place for place, row in enumerate(rows) if address in (row.get("fromAddress"), row["toAddress"])]
            assert list(instance.positions(address)) == own
            came = sum(read_amount(row["amount"]).units for row in rows if row["toAddress"] == address)
            went = sum(read_amount(row["amount"]).units for row in rows if row.get("fromAddress") == address)
            assert units == came - went


@given(st.integers(1, 10**40 - 1), st.integers(-COIN_SCALE, 0))
def test_a_canonical_amount_is_read_back_to_the_same_units(value: int, power: int) -> None:
    units = value * 10 ** (power + COIN_SCALE)
    try:
        assert read_amount(coins_text(units)).units == units
    except AmountMalformedError:
        assert len(coins_text(units).removeprefix("0.").replace(".", "")) > 40


@given(st.text(alphabet="0123456789.eE+-", max_size=30))
def test_what_is_listed_is_read_as_the_same_amount(text: str) -> None:
    try:
        amount = read_amount(text)
    except (AmountMalformedError, AmountNotPositiveError):
        return
    assert amount.units > 0
    assert "e" not in amount.text.lower()
    assert read_amount(amount.text) == amount
