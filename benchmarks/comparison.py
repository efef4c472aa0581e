"""Ratios of runs. The machine's speed changes within minutes, so only runs of the same round are compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.load import Counted
from benchmarks.scenarios import Goal


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one side. `cpu_s`: seconds of CPU by process, without wrk; empty where it cannot be measured."""

    counted: Counted
    cpu_s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median with the least and the most."""

    median: float
    least: float
    most: float


# Scenario → side → its runs, round by round.
Results = Mapping[str, Mapping[str, Sequence[Run]]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a goal was met."""

    goal: Goal
    ratio: Spread
    reached: bool


def spread(figures: Sequence[float]) -> Spread:
    """Raises ValueError when there are none."""
    if not figures:
        raise ValueError("no figure was measured")
    return Spread(median(figures), min(figures), max(figures))


def figures(runs: Sequence[Run], name: str) -> list[float]:
    """One figure of each run, by its name in Counted."""
    return [float(getattr(run.counted, name)) for run in runs]


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Over the pairs of each round. Raises ValueError when the rounds differ in number, or nothing was done in one."""
    if any(figure == 0 for figure in below):
        raise ValueError("a run did nothing: there is no ratio to it")
    return spread([one / other for one, other in zip(above, below, strict=True)])


def verdict(goal: Goal, results: Results) -> Verdict | None:
    """None where the sides of the goal were not measured."""
    above = results.get(goal.scenario, {}).get(goal.side, ())
    below = results.get(goal.other_scenario, {}).get(goal.other_side, ())
    if not above or not below:
        return None
    found = ratio(figures(above, goal.figure), figures(below, goal.figure))

    reached = found.median <= goal.bound if goal.at_most else found.median >= goal.bound
    return Verdict(goal, found, reached)


def cpu_per_1000(runs: Sequence[Run]) -> dict[str, float]:
    """Seconds of CPU per 1,000 answers by process, wrk included, over all runs."""
    answers = sum(run.counted.requests for run in runs)
    totals: dict[str, float] = {}
    for run in runs:
        for name, cpu_s in (*run.cpu_s.items(), ("wrk", run.counted.cpu_s)):
            totals[name] = totals.get(name, 0.0) + cpu_s
    return {name: 1_000 * cpu_s / answers for name, cpu_s in totals.items()} if answers else {}


def non_2xx_share(runs: Sequence[Run]) -> float:
    """The share of requests that were answered with 400 or above, or not at all."""
    answers = sum(run.counted.requests for run in runs)
    failed = sum(run.counted.refused + run.counted.broken for run in runs)
    return failed / max(answers, 1)
