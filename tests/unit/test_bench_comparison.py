import pytest

from benchmarks.comparison import Run, cpu_per_1000, figures, non_2xx_share, ratio, spread, verdict
from benchmarks.load import Counted, counted
from benchmarks.scenarios import GOALS, OURS, SCENARIOS, Goal

LINE = (
    '{"requests":3000,"duration_us":2000000,"refused":10,"broken":5,'
    '"p50_us":1500,"p95_us":2500,"p99_us":9000,"max_us":20000}'
)


def run(per_s: int, *, p50_ms: float = 1.0, **cpu_s: float) -> Run:
    return Run(Counted(per_s, 1.0, 0, 0, p50_ms, p50_ms, p50_ms, cpu_s=0.5), cpu_s)


def test_a_run_counts_only_what_was_not_refused() -> None:
    found = counted(LINE, cpu_s=0.1)
    assert found.per_s == (3000 - 10) / 2
    assert (found.p50_ms, found.p99_ms) == (1.5, 9.0)


def test_a_spread_is_the_median_with_the_least_and_the_most() -> None:
    found = spread([3, 1, 10])
    assert (found.median, found.least, found.most) == (3, 1, 10)
    with pytest.raises(ValueError, match="no figure"):
        spread([])


def test_a_ratio_is_the_median_of_the_pairs_and_not_the_pair_of_the_medians() -> None:
    ours, theirs = [100.0, 300.0, 90.0], [50.0, 300.0, 10.0]
    found = ratio(ours, theirs)
    assert (found.median, found.least, found.most) == (2, 1, 9)


def test_rounds_that_do_not_pair_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="did nothing"):
        ratio([1.0], [0.0])


@pytest.mark.parametrize(("ours", "reached"), [(149, False), (150, True), (200, True)])
def test_a_goal_of_throughput_is_reached_from_its_bound_on(ours: int, reached: bool) -> None:
    goal = Goal("", "per_s", "many", OURS, "many", "function", 1.5)
    found = verdict(goal, {"many": {OURS: [run(ours)], "function": [run(100)]}})
    assert found is not None
    assert found.reached == reached


@pytest.mark.parametrize(("p50_ms", "reached"), [(4.1, False), (4, True), (2.5, True)])
def test_a_goal_of_latency_is_reached_up_to_its_bound(p50_ms: float, reached: bool) -> None:
    goal = Goal("", "p50_ms", "one", OURS, "one", "function", 4, at_most=True)
    found = verdict(goal, {"one": {OURS: [run(1, p50_ms=p50_ms)], "function": [run(1, p50_ms=1)]}})
    assert found is not None
    assert found.reached == reached


def test_a_goal_whose_other_side_was_not_measured_has_no_verdict() -> None:
    assert verdict(GOALS[0], {"many": {OURS: [run(1)]}}) is None


def test_every_goal_names_scenarios_and_figures_that_there_are() -> None:
    names = {scenario.name for scenario in SCENARIOS}
    for goal in GOALS:
        assert {goal.scenario, goal.other_scenario} <= names
        assert figures([run(1)], goal.figure)


def test_cpu_is_counted_by_process_over_all_rounds_with_the_load_generator() -> None:
    assert cpu_per_1000([run(100, gateway=0.1), run(300, gateway=0.3)]) == pytest.approx({"gateway": 1.0, "wrk": 2.5})


def test_refused_and_broken_answers_are_a_share_of_all() -> None:
    assert non_2xx_share([Run(counted(LINE, 0), {})]) == 15 / 3000
