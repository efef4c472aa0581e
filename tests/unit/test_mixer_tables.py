"""The life cycles of deposits, credits and payouts; the database knows the same states."""

import re
from collections.abc import Mapping
from enum import StrEnum

import pytest

from services.deposit_poller.core.destinations import refusal_of
from services.deposit_poller.core.sweeps import SWEEP, SWEEP_LIFECYCLE, SweepState, UnsweptDeposit, collected, credit_of
from services.distributor.core.credits import CREDIT_LIFECYCLE, CreditState
from services.distributor.core.payouts import FUND, PAY, PAYOUT_LIFECYCLE, Payout, PayoutState, one_shot_address
from shared.domain.lifecycle import InvariantBroken, Lifecycle
from shared.mixer.claimed_rows import Leg
from shared.mixer.jobcoin_rows import Address, Transfer
from tests.tree import ROOT

LIFECYCLES = [
    (SWEEP_LIFECYCLE, SweepState, {SweepState.CREDITED, SweepState.CANCELLED}),
    (CREDIT_LIFECYCLE, CreditState, {CreditState.PLANNED}),
    (PAYOUT_LIFECYCLE, PayoutState, {PayoutState.PAID, PayoutState.RESOLVED, PayoutState.CANCELLED}),
]
# Every migration, in order: the last one that says something counts.
SCHEMA = "".join(
    path.read_text(encoding="utf-8") for path in sorted((ROOT / "shared/database/migrations").glob("*.sql"))
)


def reached(table: Mapping[StrEnum, frozenset[StrEnum]], start: StrEnum, without: StrEnum) -> set[StrEnum]:
    """Everything that can follow on a state, when nobody decides about what is stuck."""
    found, edge = {start}, [start]
    while edge:
        state = edge.pop()
        fresh = set[StrEnum]() if state is without else set(table[state]) - found
        found |= fresh
        edge += fresh
    return found


@pytest.mark.parametrize(("lifecycle", "states", "ends"), LIFECYCLES)
def test_every_state_is_reached_and_none_is_left_without_a_way_on(
    lifecycle: Lifecycle[StrEnum], states: type[StrEnum], ends: set[StrEnum]
) -> None:
    first, stuck = next(iter(states)), states("stuck")
    assert set(lifecycle.next_states) == set(states)
    assert reached(lifecycle.next_states, first, stuck) == set(states)
    assert {state for state, after in lifecycle.next_states.items() if not after} == ends


def test_what_the_list_showed_is_never_sent_again() -> None:
    sweeps, payouts = SWEEP_LIFECYCLE.next_states, PAYOUT_LIFECYCLE.next_states
    assert reached(sweeps, SweepState.SEEN, SweepState.STUCK).isdisjoint({SweepState.PLANNED, SweepState.SENDING})
    assert reached(payouts, PayoutState.SENT, PayoutState.STUCK) == {
        PayoutState.SENT,
        PayoutState.PAID,
        PayoutState.STUCK,
    }
    assert PayoutState.HELD not in reached(payouts, PayoutState.FUNDED, PayoutState.STUCK)


@pytest.mark.parametrize(
    ("lifecycle", "before", "after"),
    [
        (SWEEP_LIFECYCLE, SweepState.PLANNED, SweepState.SEEN),
        (SWEEP_LIFECYCLE, SweepState.CREDITED, SweepState.PLANNED),
        (CREDIT_LIFECYCLE, CreditState.PLANNED, CreditState.NEW),
        (PAYOUT_LIFECYCLE, PayoutState.PLANNED, PayoutState.FUNDING),
        (PAYOUT_LIFECYCLE, PayoutState.SENT, PayoutState.SENDING),
    ],
)
def test_no_step_is_skipped_and_none_is_taken_back(
    lifecycle: Lifecycle[StrEnum], before: StrEnum, after: StrEnum
) -> None:
    with pytest.raises(InvariantBroken):
        lifecycle.check(before, after)


@pytest.mark.parametrize(
    ("lifecycle", "leg"), [(SWEEP_LIFECYCLE, SWEEP), (PAYOUT_LIFECYCLE, FUND), (PAYOUT_LIFECYCLE, PAY)]
)
def test_a_transfer_goes_on_once_it_was_seen_and_back_once_it_is_known_to_be_absent(
    lifecycle: Lifecycle[StrEnum], leg: Leg
) -> None:
    lifecycle.check(leg.before, leg.under_way)
    lifecycle.check(leg.under_way, leg.after)
    lifecycle.check(leg.under_way, leg.before)


@pytest.mark.parametrize(("lifecycle", "states", "_"), LIFECYCLES)
def test_the_database_knows_the_same_states(lifecycle: Lifecycle[StrEnum], states: type[StrEnum], _: object) -> None:
    found = re.findall(rf"CONSTRAINT {lifecycle.noun}s_state\s+CHECK \(state IN \(([^)]*)\)", SCHEMA)
    assert re.findall(r"'(\w+)'", found[-1]) == [state.value for state in states]


def test_a_payout_goes_through_an_address_of_its_own() -> None:
    payout = Payout(
        id="p", mix="m", destination=Address("anna"), amount=3, state=PayoutState.FUNDED, hold="h",
        address=one_shot_address("i"), attempts=0, hold_attempt=1, capture_attempt=1, claim=1,
    )  # fmt: skip
    house = Address("house")
    assert payout.transfer(FUND, house) == Transfer(house, Address("pay-i"), 3 * 10**22)
    assert payout.transfer(PAY, house) == Transfer(Address("pay-i"), Address("anna"), 3 * 10**22)


def test_of_two_equal_destinations_the_second_is_refused() -> None:
    assert [refusal_of(["a", "b", "a"], index, ()) is None for index in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    "address", ["a/b", "../x", "naïve", "\U0001f600" * 100, "x" * 4096, "a b", "%2F", "?q=1#f", "\\", "50", ".", ".."]
)
def test_any_text_is_an_address_since_the_network_has_no_format(address: str) -> None:
    assert refusal_of([address], 0, ()) is None


@pytest.mark.parametrize("address", ["", " ", "x" * 4097, "\U0001f600" * 1025, "\ud800", "a\0b", "pay-" + "0" * 36])
def test_what_is_no_address_of_a_customer_is_refused(address: str) -> None:
    assert refusal_of([address], 0, ()) is not None


def test_what_is_finer_than_the_ledger_adds_up_and_is_never_lost() -> None:
    half = 10**22 // 2
    credit, rest = credit_of(0, half)
    assert (credit, rest) == (0, half)
    assert credit_of(rest, half) == (1, 0)
    assert credit_of(rest, 3 * 10**22) == (3, half)


def test_a_sweep_takes_all_that_the_ledger_can_credit_at_once() -> None:
    most = 10**30 * 10**22
    small, large, whole = UnsweptDeposit("a", 10**22), UnsweptDeposit("b", 2 * 10**22), UnsweptDeposit("c", most)
    assert collected([small, large]) == [large, small]
    assert collected([small, whole, large]) == [whole]
    assert collected([UnsweptDeposit("huge", 2 * most), small]) == [UnsweptDeposit("huge", 2 * most)]


def test_dust_of_the_last_digit_keeps_no_deposit_from_being_swept() -> None:
    """The network takes 40 digits: 5 coins and 10^-40 are no amount."""
    dust, five, cents = UnsweptDeposit("dust", 1), UnsweptDeposit("five", 5 * 10**40), UnsweptDeposit("cents", 10**38)
    assert collected([dust, five, cents]) == [five, cents]
    assert collected([dust]) == [dust]
