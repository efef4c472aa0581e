"""The lives of deposits and payouts, as tables; where they may not go, and that the database knows the same states."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

import pytest

from services.deposit_poller.core import deposits
from services.deposit_poller.core.deposits import DepositState
from services.deposit_poller.core.destinations import refusal_of
from services.distributor.core import payouts
from services.distributor.core.payouts import FUND, PAY, Payout, PayoutState, one_shot_address
from shared.jobcoin_rows import Address, Transfer
from tests.tree import ROOT

State = TypeVar("State", bound=StrEnum)
SCHEMA = (ROOT / "shared/migrations/0003_mixer.sql").read_text(encoding="utf-8")


def reached(table: Mapping[State, frozenset[State]], start: State, without: State) -> set[State]:
    """Everything that can follow on a state, when nobody decides about what is stuck."""
    found, edge = {start}, [start]
    while edge:
        state = edge.pop()
        fresh = set[State]() if state is without else set(table[state]) - found
        found |= fresh
        edge += fresh
    return found


def test_tables_are_total() -> None:
    assert set(deposits.NEXT) == set(DepositState)
    assert set(payouts.NEXT) == set(PayoutState)


def test_every_state_is_reached_and_none_is_left_without_a_way_on() -> None:
    assert reached(deposits.NEXT, DepositState.SEEN, DepositState.STUCK) == set(DepositState)
    assert reached(payouts.NEXT, PayoutState.PLANNED, PayoutState.STUCK) == set(PayoutState)
    assert {state for state, after in deposits.NEXT.items() if not after} == {DepositState.CREDITED}
    assert {state for state, after in payouts.NEXT.items() if not after} == {PayoutState.PAID}


def test_what_the_list_showed_is_never_sent_again() -> None:
    assert reached(deposits.NEXT, DepositState.SWEPT, DepositState.STUCK).isdisjoint(
        {DepositState.SEEN, DepositState.SWEEPING}
    )
    assert reached(payouts.NEXT, PayoutState.SENT, PayoutState.STUCK) == {
        PayoutState.SENT,
        PayoutState.PAID,
        PayoutState.STUCK,
    }
    assert PayoutState.HELD not in reached(payouts.NEXT, PayoutState.FUNDED, PayoutState.STUCK)


@pytest.mark.parametrize(
    ("before", "after"), [(DepositState.SEEN, DepositState.SWEPT), (DepositState.CREDITED, DepositState.SEEN)]
)
def test_a_deposit_skips_nothing(before: DepositState, after: DepositState) -> None:
    with pytest.raises(deposits.InvariantBroken):
        deposits.check_step(before, after)


@pytest.mark.parametrize(
    ("before", "after"), [(PayoutState.PLANNED, PayoutState.FUNDING), (PayoutState.SENT, PayoutState.SENDING)]
)
def test_a_payout_skips_nothing(before: PayoutState, after: PayoutState) -> None:
    with pytest.raises(payouts.InvariantBroken):
        payouts.check_step(before, after)


@pytest.mark.parametrize(("constraint", "states"), [("deposits_state", DepositState), ("payouts_state", PayoutState)])
def test_the_database_knows_the_same_states(constraint: str, states: type[StrEnum]) -> None:
    match = re.search(rf"CONSTRAINT {constraint}\s+CHECK \(state IN \(([^)]*)\)", SCHEMA)
    assert match is not None
    assert re.findall(r"'(\w+)'", match[1]) == [state.value for state in states]


def test_a_payout_goes_through_an_address_of_its_own() -> None:
    payout = Payout(
        id="p", mix="m", destination=Address("anna"), amount=3, state=PayoutState.FUNDED, hold="h",
        address=one_shot_address("i"), rounds=0, hold_attempt=1, capture_attempt=1, claim=1,
    )  # fmt: skip
    house = Address("house")
    assert payout.transfer(FUND, house) == Transfer(house, Address("pay-i"), 3 * 10**22)
    assert payout.transfer(PAY, house) == Transfer(Address("pay-i"), Address("anna"), 3 * 10**22)


def test_of_two_equal_destinations_the_second_is_refused() -> None:
    assert [refusal_of(["a", "b", "a"], index, ()) is None for index in range(3)] == [True, True, False]
