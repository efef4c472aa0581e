"""Which call of the simulated network meets which fault, and what is shown instead of the truth."""

import random
from collections import Counter

import pytest

from services.jobcoin_network.core.faults import (
    CALLS,
    PARTS,
    Call,
    CallFault,
    FaultKind,
    FaultPlan,
    FaultRule,
    RatesTooHighError,
    shown_positions,
    skewed,
)
from services.jobcoin_network.core.instances import genesis
from services.jobcoin_network.core.transactions import InstanceName, transaction_json

CUT, DELAYED = FaultRule(FaultKind.RESET), FaultRule(FaultKind.DELAYED_APPLY, ms_min=2_000, ms_max=60_000, status=200)
MISSING = FaultRule(FaultKind.MISSING_ROWS)


def plan(*rates: tuple[FaultRule, int], script: tuple[FaultRule, ...] = (), seed: int = 1) -> FaultPlan:
    return FaultPlan(random.Random(seed).randrange, rates, script)


def test_a_rate_is_the_share_of_the_calls_that_the_fault_can_happen_to() -> None:
    drawn = plan((CUT, 100_000), (DELAYED, 200_000), (MISSING, 300_000))
    kinds = {call: Counter(fault and fault.kind for fault in map(drawn.next, [call] * 10_000)) for call in Call}
    assert kinds[Call.SEND].keys() == {None, FaultKind.RESET, FaultKind.DELAYED_APPLY}
    assert kinds[Call.LIST].keys() == {None, FaultKind.RESET, FaultKind.MISSING_ROWS}
    assert 900 < kinds[Call.SEND][FaultKind.RESET] < 1_100
    assert 1_850 < kinds[Call.SEND][FaultKind.DELAYED_APPLY] < 2_150
    assert 2_800 < kinds[Call.ADDRESS][FaultKind.MISSING_ROWS] < 3_200


def test_the_same_seed_hits_the_same_calls() -> None:
    calls = random.Random(5).choices(list(Call), k=500)
    first, again, other = (plan((CUT, 300_000), (DELAYED, 200_000), seed=seed) for seed in (7, 7, 8))
    faults = [first.next(call) for call in calls]
    assert faults == [again.next(call) for call in calls]
    assert faults != [other.next(call) for call in calls]


def test_a_script_waits_for_the_call_that_its_next_fault_can_happen_to() -> None:
    send_only = FaultRule(FaultKind.RESET, Call.SEND)
    scripted = plan(script=(FaultRule(FaultKind.NONE, Call.SEND), DELAYED, MISSING, send_only))
    answers = [scripted.next(call) for call in (Call.LIST, Call.SEND, Call.LIST, Call.SEND, Call.LIST, Call.SEND)]
    kinds = [answer and answer.kind for answer in answers]
    delayed, missing, reset = FaultKind.DELAYED_APPLY, FaultKind.MISSING_ROWS, FaultKind.RESET
    assert kinds == [None, None, None, delayed, missing, reset]
    assert answers[3] is not None
    assert 2_000 <= answers[3].ms <= 60_000
    assert not scripted.script


def test_none_in_a_script_spares_a_call_from_the_rates() -> None:
    spared = plan((CUT, PARTS), script=(FaultRule(FaultKind.NONE),))
    assert spared.next(Call.LIST) is None
    assert spared.next(Call.LIST) is not None


def test_rates_that_make_more_than_one_for_any_call_are_refused() -> None:
    plan((DELAYED, 600_000), (MISSING, 600_000))
    with pytest.raises(RatesTooHighError, match="send"):
        plan((DELAYED, 600_000), (FaultRule(FaultKind.HTML, Call.SEND), 400_001))


@pytest.mark.parametrize("kind", list(FaultKind))
def test_every_kind_can_happen_to_some_call(kind: FaultKind) -> None:
    assert CALLS[kind]
    drawn = plan((FaultRule(kind), PARTS)).next(min(CALLS[kind]))
    assert (drawn is None) == (kind is FaultKind.NONE)


ROWS = list(range(1_000, 1_500))


@pytest.mark.parametrize("count", [0, 1, 2, 500])
@pytest.mark.parametrize("seed", range(20))
def test_rows_come_twice_are_missing_or_change_places_among_the_newest(count: int, seed: int) -> None:
    rows, draw = ROWS[:count], random.Random(seed).randrange

    def shown(kind: FaultKind) -> list[int]:
        return list(shown_positions(CallFault(kind, 0, 0, 1), rows, draw))

    twice = shown(FaultKind.DUPLICATE_ROWS)
    assert (sorted(set(twice)), len(twice) - count) == (rows, min(count, 1))
    missing = set(rows) - set(shown(FaultKind.MISSING_ROWS))
    assert len(missing) == min(count, 1)
    assert missing <= set(rows[-100:])
    swapped = shown(FaultKind.REORDERED_ROWS)
    assert sorted(swapped) == rows
    assert [place for place in range(count) if swapped[place] != rows[place]][2:] == []
    assert (swapped != rows) == (count > 1)
    assert swapped[:-100] == rows[:-100]


def test_more_rows_than_there_are_can_be_missing() -> None:
    assert shown_positions(CallFault(FaultKind.MISSING_ROWS, 0, 0, 9), [4, 5], random.Random(1).randrange) == []


@pytest.mark.parametrize(
    ("ms", "text"), [(1, "2014-04-22T13:10:01.151Z"), (-150, "2014-04-22T13:10:01.000Z"), (86_400_000, "2014-04-23T13")]
)
def test_a_skewed_clock_changes_the_timestamp_and_nothing_else(ms: int, text: str) -> None:
    row = transaction_json(genesis(InstanceName("puppy"), 1_398_172_201_210)[0])
    changed = skewed(row, ms)
    assert text.encode() in changed
    assert (changed[38:], len(changed)) == (row[38:], len(row))
