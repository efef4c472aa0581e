import json

import pytest

from benchmarks.comparison import Run
from benchmarks.load import Counted
from benchmarks.machine import Machine
from benchmarks.processes import IdleUse
from benchmarks.report import as_object, as_table
from benchmarks.run import Bench
from benchmarks.scenarios import FORMS, OURS, QUICK, SCENARIOS

MACHINE = Machine("A CPU", 2, 8_000, "6.1", "3.11.2", {"server_version": "18.4", "fsync": "on"}, "3.10.8", 0.1)


def run(per_s: int) -> Run:
    return Run(
        Counted(per_s, 1.0, 0, 0, 10.0, 20.0, 30.0, 0.03), {"gateway-1": 0.2, "postgres": 0.1, "supervisor": 0.0}
    )


def bench(*, ours: int, baseline: bool = True, idle_cpu_share: float = 0.01) -> Bench:
    sides = {OURS: [run(ours), run(ours)]} | ({form: [run(1_000), run(500)] for form in FORMS} if baseline else {})
    return Bench(
        machine=MACHINE,
        plan=QUICK,
        results={scenario.name: sides for scenario in SCENARIOS},
        pools={scenario.name: dict.fromkeys(FORMS, 16) for scenario in SCENARIOS} if baseline else {},
        idle=(IdleUse(7, 0.01, 300, 200), IdleUse(7, idle_cpu_share, 400, 250)),
        statuses={"201": 12_345},
        verify={"ok": True, "checked": {"entries": 40_000}},
        is_baseline_conserved=True if baseline else None,
        load_after=2.0,
    )


def test_the_table_shows_every_scenario_side_and_goal() -> None:
    table = as_table(bench(ours=3_000))
    assert all(scenario.title in table for scenario in SCENARIOS)
    assert table.count("(pool 16)") == len(SCENARIOS) * len(FORMS)
    assert "fsync on" in table
    assert "40,000 entries" in table
    assert max(map(len, table.splitlines())) <= 120


@pytest.mark.parametrize(("ours", "state"), [(1_250, "reached"), (100, "not reached")])
def test_the_table_says_how_each_goal_was_met(ours: int, state: str) -> None:
    line = next(
        line for line in as_table(bench(ours=ours)).splitlines() if "64 connections: throughput / function" in line
    )
    assert "goal ≥ 1.15" in line
    assert line.endswith(f"  {state}")


def test_an_idle_stack_that_is_busy_after_the_load_has_not_reached_its_goal() -> None:
    assert "≤ 400 MB   not reached" in as_table(bench(ours=1, idle_cpu_share=0.03))
    assert "≤ 400 MB   reached" in as_table(bench(ours=1))


def test_without_a_baseline_our_own_figures_are_shown_alone() -> None:
    table = as_table(bench(ours=1, baseline=False))
    assert "function" not in table
    assert "our own uniform" in table


def test_machines_get_the_same_as_one_json_object() -> None:
    found = json.loads(json.dumps(as_object(bench(ours=3_000))))
    assert [scenario["name"] for scenario in found["scenarios"]] == [scenario.name for scenario in SCENARIOS]
    side = found["scenarios"][0]["sides"]["function"]
    assert side["pool"] == 16
    assert side["per_s"] == {"median": 750, "least": 500, "most": 1000}
    assert side["non_2xx_share"] == 0
    assert found["goals"][0]["ratio"]["median"] == 4.5
    assert found["verify"]["ok"] is True
