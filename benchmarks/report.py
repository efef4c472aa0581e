"""What a bench found: a table for people, an object for machines."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Final

from benchmarks.comparison import Run, Spread, Verdict, cpu_per_1000, figures, non_2xx_share, ratio, spread, verdict
from benchmarks.run import Bench
from benchmarks.scenarios import (
    FORMS,
    GOALS,
    IDLE_CPU_SHARE_MAX,
    IDLE_MEMORY_MB_MAX,
    OURS,
    SCENARIOS,
)

FIGURES: Final = ("per_s", "p50_ms", "p95_ms", "p99_ms")
# A process that costs less than this is counted under "rest".
CPU_SHOWN_S_MIN: Final = 0.005


def as_object(bench: Bench) -> dict[str, object]:
    """For `--json`."""
    return {
        "machine": asdict(bench.machine) | {"load_after": bench.load_after},
        "plan": asdict(bench.plan),
        "scenarios": [
            {
                "name": scenario.name,
                "title": scenario.title,
                "connections": scenario.load.connections,
                "hot": scenario.load.hot,
                "sides": {
                    side: _side_object(runs) | {"pool": bench.pools.get(scenario.name, {}).get(side)}
                    for side, runs in bench.results[scenario.name].items()
                },
            }
            for scenario in SCENARIOS
        ],
        "goals": [_goal_object(found) for found in _verdicts(bench)],
        "idle": _idle_object(bench),
        "statuses": dict(bench.statuses),
        "verify": bench.verify,
        "baseline_conserved": bench.is_baseline_conserved,
    }


def _side_object(runs: Sequence[Run]) -> dict[str, object]:
    found: dict[str, object] = {name: asdict(spread(figures(runs, name))) for name in FIGURES}
    return found | {
        "non_2xx_share": non_2xx_share(runs),
        "cpu_s_per_1000": cpu_per_1000(runs),
        "rounds": [asdict(run.counted) | {"per_s": run.counted.per_s, "cpu": dict(run.cpu_s)} for run in runs],
    }


def _goal_object(found: Verdict) -> dict[str, object]:
    goal = found.goal
    return {
        "text": goal.text,
        "goal": goal.bound,
        "at_most": goal.at_most,
        "ratio": asdict(found.ratio),
        "reached": found.reached,
    }


def _idle_object(bench: Bench) -> dict[str, object] | None:
    if bench.idle is None:
        return None
    before, after = bench.idle
    return {
        "before": asdict(before),
        "after": asdict(after),
        "cpu_share_max": IDLE_CPU_SHARE_MAX,
        "memory_mb_max": IDLE_MEMORY_MB_MAX,
        "reached": _is_idle_reached(bench),
    }


def _is_idle_reached(bench: Bench) -> bool:
    return bench.idle is not None and all(
        each.cpu_share <= IDLE_CPU_SHARE_MAX and (each.pss_mb or each.rss_mb) <= IDLE_MEMORY_MB_MAX
        for each in bench.idle
    )


def _verdicts(bench: Bench) -> list[Verdict]:
    return [found for goal in GOALS if (found := verdict(goal, bench.results)) is not None]


def as_table(bench: Bench) -> str:
    """For people."""
    return "\n".join(
        [
            *_machine_lines(bench),
            *(line for scenario in SCENARIOS for line in _scenario_lines(scenario.name, scenario.title, bench)),
            *_goal_lines(bench),
            *_idle_lines(bench),
            *_closing_lines(bench),
        ]
    )


def _machine_lines(bench: Bench) -> Iterator[str]:
    machine, plan = bench.machine, bench.plan
    settings = ", ".join(f"{name} {value}" for name, value in machine.postgres.items() if name != "server_version")
    postgres = (
        f"PostgreSQL {machine.postgres['server_version']} ({settings})" if machine.postgres else "PostgreSQL unseen"
    )
    yield f"{machine.cpu}, {machine.cores} cores, {machine.memory_mb:,} MB, Linux {machine.kernel}, wrk here too"
    yield f"{postgres}, RabbitMQ {machine.rabbitmq}, Python {machine.python}"
    loads = f"load average {machine.load_before:.1f} before, {bench.load_after:.1f} after"
    yield f"{loads}; {plan.rounds} rounds of {plan.run_s:.0f} s each, the sides in turns"


def _scenario_lines(name: str, title: str, bench: Bench) -> Iterator[str]:
    sides = bench.results[name]
    yield ""
    yield title
    times = " ".join(f"{quantile + ' ms':>8}" for quantile in ("p50", "p95", "p99"))
    yield f"  {'':<22} {'transfers/s':>11} {'(least … most)':>17} {times} {'not 2xx':>8}"
    for side, runs in sides.items():
        pool = bench.pools.get(name, {}).get(side)
        label = side if pool is None else f"{side} (pool {pool})"
        per_s, *latencies = (spread(figures(runs, figure)) for figure in FIGURES)
        times = " ".join(f"{latency.median:8.2f}" for latency in latencies)
        yield f"  {label:<22} {per_s.median:11,.0f} {_ends(per_s, ',.0f'):>17} {times} {non_2xx_share(runs):8.2%}"
    for form in FORMS:
        if form in sides:
            times = ratio(figures(sides[OURS], "per_s"), figures(sides[form], "per_s"))
            yield f"  {OURS} / {form:<9} {times.median:11.2f} {_ends(times, '.2f'):>17}"
    yield "  CPU seconds per 1,000 transfers"
    for side, runs in sides.items():
        yield f"    {side:<12} {_cpu_text(cpu_per_1000(runs))}"


def _cpu_text(costs: Mapping[str, float]) -> str:
    shown = {name: cost for name, cost in costs.items() if cost >= CPU_SHOWN_S_MIN}
    if rest := sum(costs.values()) - sum(shown.values()):
        shown["rest"] = rest
    parts = ", ".join(f"{name} {cost:.3f}" for name, cost in sorted(shown.items(), key=lambda item: -item[1]))
    return f"{sum(costs.values()):.3f} = {parts}"


def _ends(found: Spread, form: str) -> str:
    return f"({found.least:{form}} … {found.most:{form}})"


def _goal_lines(bench: Bench) -> Iterator[str]:
    verdicts = _verdicts(bench)
    if verdicts:
        yield ""
        yield "Goals (median of the pairs, least … most):"
    yield from map(_goal_line, verdicts)


def _goal_line(found: Verdict) -> str:
    goal = found.goal
    sign = "≤" if goal.at_most else "≥"
    state = "reached" if found.reached else "not reached"
    bound = f"goal {sign} {goal.bound:g}"
    return f"  {goal.text:<52} {found.ratio.median:6.2f} {_ends(found.ratio, '.2f'):>15}  {bound:<12} {state}"


def _idle_lines(bench: Bench) -> Iterator[str]:
    if bench.idle is None:
        return
    for when, found in zip(("before", "after"), bench.idle, strict=True):
        yield (
            f"  idle, {when} the load: {found.processes} own processes, {found.cpu_share:.1%} of a core,"
            f" {found.pss_mb:,.0f} MB PSS ({found.rss_mb:,.0f} MB RSS)"
        )
    state = "reached" if _is_idle_reached(bench) else "not reached"
    yield f"  {'':<29} goal ≤ {IDLE_CPU_SHARE_MAX:.0%} of a core, ≤ {IDLE_MEMORY_MB_MAX:.0f} MB   {state}"


def _closing_lines(bench: Bench) -> Iterator[str]:
    yield ""
    if bench.statuses:
        answered = ", ".join(f"{status}: {count:,}" for status, count in sorted(bench.statuses.items()) if count)
        yield f"The gateway's own count of its answers to transfers: {answered}."
    if bench.is_baseline_conserved is not None:
        state = "hold" if bench.is_baseline_conserved else "DO NOT HOLD"
        yield f"The balances of the baseline {state} what was put in."
    if bench.verify is not None:
        entries = bench.verify.get("checked")
        count = f"{entries['entries']:,} entries" if isinstance(entries, dict) else "all entries"
        yield f"tellerline verify: the journal holds ({count})."
