"""Whatever is divided adds up; whatever the list does, each deposit is found once."""

import random
from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.deposit_poller.core.deposits import ContentKey, ListedDeposit, content_key, deposit_id, numbered
from services.deposit_poller.core.sweeps import credit_of
from services.distributor.core.credits import (
    GRAIN_MINOR,
    INCREMENTS_PER_DESTINATION_MAX,
    PPM,
    MixTerms,
    draws_from,
    fee_of,
    plan,
    split,
)
from shared.mixer.jobcoin_rows import UNITS_PER_MINOR, Address, ListedRow

DRAWN = [81, 47, 30, 57]
AMOUNTS = st.one_of(st.integers(1, 10**30), st.integers(1, 1_000), st.integers(10**17, 10**20))


@given(AMOUNTS, st.integers(0, PPM))
def test_the_fee_is_rounded_against_the_house(amount: int, ppm: int) -> None:
    fee = fee_of(amount, ppm)
    assert 0 <= fee <= amount
    assert fee * PPM <= amount * ppm < (fee + 1) * PPM


@given(st.integers(0, 10**30), st.lists(st.integers(1, 10**6), min_size=1, max_size=100))
def test_parts_add_up_and_each_is_its_share_to_within_one(amount: int, weights: list[int]) -> None:
    parts = split(amount, weights)
    assert sum(parts) == amount
    total = sum(weights)
    assert all(abs(part * total - amount * weight) < total for part, weight in zip(parts, weights, strict=True))


@given(AMOUNTS, st.integers(1, 10**19), st.integers(1, 20), st.integers(0, 10_000), st.integers(0, 10_000), st.text())
def test_a_plan_is_exact_within_its_bounds_and_forgets_nobody(
    amount: int, amount_min: int, receivers: int, delay_ms_min: int, spread_ms: int, seed: str
) -> None:
    destinations = tuple(f"receiver-{number}" for number in range(receivers))
    terms = MixTerms(destinations, 0, delay_ms_min, delay_ms_min + spread_ms)
    increments = plan(amount, terms, amount_min, seed)
    assert sum(increment.amount for increment in increments) == amount
    assert all(increment.amount >= min(amount_min, amount) for increment in increments)
    assert all(delay_ms_min <= increment.delay_ms <= delay_ms_min + spread_ms for increment in increments)
    parts_max = receivers * INCREMENTS_PER_DESTINATION_MAX
    assert 1 <= len(increments) <= parts_max
    if amount >= amount_min * receivers:
        assert {increment.destination for increment in increments} == set(destinations)
    if amount >= amount_min * parts_max:
        assert len(increments) >= 2 * receivers


def test_a_credit_smaller_than_the_least_payout_is_one_payout() -> None:
    [increment] = plan(7, MixTerms(("a", "b", "c"), 0, 0, 1), 10, "seed")
    assert increment.amount == 7


def test_who_goes_without_is_left_to_chance() -> None:
    terms = MixTerms(("a", "b", "c"), 0, 0, 0)
    assert {plan(7, terms, 7, str(seed))[0].destination for seed in range(50)} == {"a", "b", "c"}


def test_increments_differ_and_look_like_amounts_that_people_send() -> None:
    increments = plan(10**18, MixTerms(("a", "b"), 0, 0, 60_000), 10**14, "seed")
    assert len({increment.amount for increment in increments}) == len(increments)
    assert all(increment.amount % GRAIN_MINOR == 0 for increment in increments)
    assert len({increment.delay_ms for increment in increments}) == len(increments)


def test_a_plan_of_nothing_is_empty() -> None:
    assert plan(0, MixTerms(("a",), 0, 0, 1), 1, "seed") == ()


def test_the_same_seed_makes_the_same_plan_and_another_seed_another() -> None:
    terms = MixTerms(("a", "b"), 0, 0, 9_000)
    one, again, other = (plan(10**18, terms, 1, seed) for seed in ("one", "one", "other"))
    assert one == again != other
    # The rule itself must not change: plans are compared with what was written by earlier versions.
    draw = draws_from("seed")
    assert [draw(1, 100) for _ in range(4)] == DRAWN


ROWS = st.builds(
    ListedRow,
    st.sampled_from([f"2026-11-21T12:00:0{second}.000Z" for second in range(3)]),
    st.just(Address("sender")),
    st.sampled_from([Address("ours"), Address("also-ours"), Address("somebody")]),
    st.integers(1, 2),
)
MIXES = {Address("ours"): "mix-1", Address("also-ours"): "mix-2"}


@given(st.lists(ROWS, max_size=30), st.lists(st.integers(0, 30), max_size=6), st.randoms(use_true_random=False))
def test_each_deposit_is_counted_once_however_the_list_is_read(
    rows: list[ListedRow], readings: list[int], chance: random.Random
) -> None:
    """The scanner's rule, without the network: read on from a cursor, or anew after the list has changed its order."""
    counted: dict[str, ListedDeposit] = {}
    cursor = 0

    def known() -> dict[ContentKey, int]:
        return Counter(content_key(each.row.source, each.row.destination, each.row.units) for each in counted.values())

    for end in [*sorted(min(reading, len(rows)) for reading in readings), len(rows)]:
        if chance.random() < 0.3:  # the same rows as far as they were read, in another order and at other times
            listed = [replace(row, timestamp=chance.choice(rows).timestamp) for row in rows[:end]]
            chance.shuffle(listed)
            found = numbered(listed, MIXES, {})
        else:
            found = numbered(rows[cursor:end], MIXES, known())
        cursor = max(cursor, end)
        for each in found:
            counted.setdefault(deposit_id("jobcoin", each.row.transfer, each.occurrence), each)
    assert len(counted) == sum(row.destination in MIXES for row in rows)


@given(st.lists(st.integers(0, 10**24), max_size=30))
def test_credits_add_up_to_all_that_was_swept_but_for_less_than_one_minor_unit(sweeps: list[int]) -> None:
    credited = rest = 0
    for units in sweeps:
        credit, rest = credit_of(rest, units)
        credited += credit
    assert credited * UNITS_PER_MINOR + rest == sum(sweeps)
    assert 0 <= rest < UNITS_PER_MINOR
