"""A long run over several workers: throughput and CPU of each minute, while the tables grow."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.load import Counted, Load, Target, run_load, wrk_program
from benchmarks.processes import cpu_by_name, used
from benchmarks.scenarios import ASSET, account_ids
from benchmarks.stack import Stack, open_accounts, verified
from shared.database.postgres import connect

WORKERS: Final = 3
MINUTE_S: Final = 60.0
# The last minute is compared with the second, so it must be another one.
MINUTES_MIN: Final = 3
MINUTES_DEFAULT: Final = 6
MINUTES_MAX: Final = 60
TRANSIT_ROWS_MIN: Final = 200_000
# The last minute's throughput over the second's. The first is a warm-up.
LAST_SHARE_MIN: Final = 0.85
LOAD: Final = Load(64)

COUNT_TRANSIT: Final = "SELECT count(*) FROM ledger.transit"


@dataclass(frozen=True, slots=True)
class Minute:
    """`transit_rows`: how many there are at its end. `cpu_s`: by process, of this minute alone."""

    counted: Counted
    transit_rows: int
    cpu_s: Mapping[str, float]

    @property
    def cpu_s_per_1000(self) -> float:
        """CPU seconds of all processes of the stack for 1,000 transfers."""
        return sum(self.cpu_s.values()) * 1_000 / max(1, self.counted.requests - self.counted.refused)


@dataclass(frozen=True, slots=True)
class LongRun:
    """All minutes, in order, and what `tellerline verify` says afterwards."""

    minutes: Sequence[Minute]
    verify: Mapping[str, object] = field(default_factory=dict[str, object])

    @property
    def last_share(self) -> float:
        """The last minute's throughput over the second's."""
        return self.minutes[-1].counted.per_s / self.minutes[1].counted.per_s

    @property
    def is_level(self) -> bool:
        """Whether throughput kept up while enough transit rows gathered."""
        return self.last_share >= LAST_SHARE_MIN and self.minutes[-1].transit_rows >= TRANSIT_ROWS_MIN

    def as_table(self) -> str:
        """For people."""
        lines = ["minute  transfers/s  p50 ms  p99 ms  transit rows  CPU s per 1,000"]
        lines += [
            f"{number:6}  {minute.counted.per_s:11,.0f}  {minute.counted.p50_ms:6.1f}  {minute.counted.p99_ms:6.1f}  "
            f"{minute.transit_rows:12,}  {minute.cpu_s_per_1000:15.2f}"
            for number, minute in enumerate(self.minutes, 1)
        ]
        verdict = "met" if self.is_level else "NOT MET"
        goal = f"last minute / second: {self.last_share:.2f}, at least {LAST_SHARE_MIN}: {verdict}"
        return "\n".join([*lines, goal, f"verify: {self.verify.get('ok')}"])


async def long_run(stack: Stack, minutes_min: int, folder: Path, say: Callable[[str], None]) -> LongRun:
    """Runs so many minutes, and on until there are enough transit rows. Raises StackFailed or LoadFailed."""
    accounts = folder / "accounts.txt"
    accounts.write_text("\n".join(account_ids()) + "\n", encoding="ascii")
    await open_accounts(stack, account_ids())
    target, wrk = Target(stack.gateway, stack.admin_key, accounts, ASSET), wrk_program()
    minutes: list[Minute] = []
    while len(minutes) < MINUTES_MAX and (len(minutes) < minutes_min or minutes[-1].transit_rows < TRANSIT_ROWS_MIN):
        pids = stack.pids()
        before = cpu_by_name(pids)
        counted = await asyncio.to_thread(run_load, wrk, target, LOAD, MINUTE_S)
        minutes.append(Minute(counted, await _transit_rows(stack), used(before, cpu_by_name(pids))))
        say(f"minute {len(minutes)}: {counted.per_s:,.0f}/s, {minutes[-1].transit_rows:,} transit rows")
    return LongRun(minutes, verified(stack))


async def _transit_rows(stack: Stack) -> int:
    connection = await connect(str(stack.postgres), application="bench")
    try:
        return int(await connection.fetchval(COUNT_TRANSIT))
    finally:
        await connection.close()
