"""What is measured, for how long, and what the figures are to reach."""

from dataclasses import dataclass
from typing import Final

from benchmarks.load import Load

ACCOUNTS: Final = 10_000
ASSET: Final = "USD"
SCALE: Final = 2
FUNDS_MINOR: Final = 100_000_000  # more than any run can move at 0.01 a transfer
POOLS: Final = (8, 16, 64)
FORMS: Final = ("function", "row locks")
OURS: Final = "Tellerline"


def account_ids() -> list[str]:
    """The ids all have the same length, as the script of wrk needs."""
    return [f"bench-{number:05d}" for number in range(ACCOUNTS)]


HOT: Final = "bench-00000"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of the table."""

    name: str
    title: str
    load: Load


UNIFORM: Final = f"uniform over {ACCOUNTS:,} accounts"
# In the order in which they run. Each side runs a whole block before the next side does. The hot account is compared
# with the same side's uniform load, so no other side's load, nor the work that it leaves behind, may come in between.
BLOCKS: Final = (
    (Scenario("one", f"1 connection, {UNIFORM}", Load(1)),),
    (
        Scenario("many", f"64 connections, {UNIFORM}", Load(64)),
        Scenario("hot", f"64 connections, one hot account ({HOT}: debited and credited in turn)", Load(64, HOT)),
    ),
    (Scenario("most", f"256 connections, {UNIFORM}", Load(256)),),
)
SCENARIOS: Final = tuple(scenario for block in BLOCKS for scenario in block)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long all of it takes. Each run is preceded by a warm-up; each form of the baseline tries every pool first."""

    rounds: int
    run_s: float
    warm_s: float
    pool_s: float
    idle_s: float


FULL: Final = Plan(rounds=5, run_s=6, warm_s=1, pool_s=3, idle_s=10)
QUICK: Final = Plan(rounds=3, run_s=3, warm_s=1, pool_s=2, idle_s=10)


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio of two sides in one scenario, or of one side in two. `at_most`: less is better, else more is."""

    text: str
    figure: str
    scenario: str
    side: str
    other_scenario: str
    other_side: str
    bound: float
    at_most: bool = False


# With one partition, one worker and one gateway.
GOALS: Final = (
    Goal("64 connections: throughput / function baseline", "per_s", "many", OURS, "many", "function", 1.15),
    Goal("256 connections: throughput / function baseline", "per_s", "most", OURS, "most", "function", 1.75),
    Goal("hot account: throughput / our own uniform at 64", "per_s", "hot", OURS, "many", OURS, 0.9),
    Goal("hot account: throughput / function baseline's hot", "per_s", "hot", OURS, "hot", "function", 2),
    Goal("1 connection: p50 / function baseline's", "p50_ms", "one", OURS, "one", "function", 5.5, at_most=True),
)
IDLE_CPU_SHARE_MAX: Final = 0.02
IDLE_MEMORY_MB_MAX: Final = 400.0
