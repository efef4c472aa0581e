"""One bench: set up, find the baseline's best pools, run the rounds, verify."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.baseline_process import BaselineProcess, baseline_process
from benchmarks.comparison import Results, Run
from benchmarks.load import Target, run_load, wrk_program
from benchmarks.machine import Machine, read_machine
from benchmarks.processes import IdleUse, cpu_by_name, measure_idle, used
from benchmarks.scenarios import ASSET, BLOCKS, FORMS, OURS, POOLS, SCENARIOS, Plan, Scenario, account_ids
from benchmarks.stack import SERVERS, Stack, open_accounts, verified

BASELINE: Final = "baseline"
REQUESTS: Final = "tellerline_gateway_requests_total"
TRANSFERS: Final = "/v1/transfers"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Bench:
    """All that was found.

    `pools`: scenario → form → the number of connections that was its best. `idle`: our own processes before and after
    the load. `statuses`: the gateway's own count of its answers. `load_after`: the load average at the end.
    """

    machine: Machine
    plan: Plan
    results: Results
    pools: Mapping[str, Mapping[str, int]]
    idle: tuple[IdleUse, IdleUse] | None
    statuses: Mapping[str, int]
    verify: Mapping[str, object] | None
    is_baseline_conserved: bool | None
    load_after: float


@dataclass(slots=True)
class Bencher:
    """What the steps of one bench share. `folder` is for its files."""

    stack: Stack
    plan: Plan
    folder: Path
    say: Say
    wrk: str = field(default_factory=wrk_program)
    results: dict[str, dict[str, list[Run]]] = field(default_factory=dict[str, dict[str, list[Run]]])
    pools: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])

    async def bench(self) -> Bench:
        """Runs all of it. Raises StackFailed or RuntimeError."""
        machine = await read_machine(self.stack.postgres, self.stack.amqp)
        self._accounts.write_text("\n".join(account_ids()) + "\n", encoding="ascii")
        begun = time.monotonic()
        await open_accounts(self.stack, account_ids())
        self.say(f"{len(account_ids()):,} accounts opened and funded in {time.monotonic() - begun:.1f} s")
        idle_before, statuses_before = await self._idle(), await self._statuses()
        is_conserved = await self._all_rounds()
        load_after = os.getloadavg()[0]
        statuses = await self._statuses()
        idle_after = await self._idle()
        return Bench(
            machine=machine,
            plan=self.plan,
            results=self.results,
            pools=self.pools,
            idle=(idle_before, idle_after) if idle_before and idle_after else None,
            statuses={each: count - statuses_before.get(each, 0) for each, count in statuses.items()},
            verify=self._verified(),
            is_baseline_conserved=is_conserved,
            load_after=load_after,
        )

    @property
    def _accounts(self) -> Path:
        return self.folder / "accounts.txt"

    async def _all_rounds(self) -> bool | None:
        """Whether the balances of the baseline still sum to what was put in; None without a baseline."""
        if self.stack.postgres is None:
            self.say("no baseline: it needs the same PostgreSQL, give --postgres")
            await self._rounds(None)
            return None
        async with baseline_process(self.stack.postgres, self.stack.admin_key, self.folder / "baseline.log") as running:
            await self._find_pools(running)
            await self._rounds(running)
            return await running.is_conserved()

    async def _find_pools(self, running: BaselineProcess) -> None:
        """Chooses the best pool for each scenario and form; these figures are used for nothing else."""
        for scenario in SCENARIOS:
            best = self.pools.setdefault(scenario.name, {})
            for form in FORMS:
                tried: dict[int, float] = {}
                for pool in POOLS:
                    await running.use_form(form, pool)
                    tried[pool] = (await self._side(running.url, scenario, {}, self.plan.pool_s)).counted.per_s
                best[form] = max(tried, key=lambda pool, tried=tried: tried[pool])
                shown = ", ".join(f"pool {pool}: {per_s:,.0f}/s" for pool, per_s in tried.items())
                self.say(f"{form}, {scenario.title}: {shown}")

    async def _rounds(self, running: BaselineProcess | None) -> None:
        for number in range(1, self.plan.rounds + 1):
            for block in BLOCKS:
                await self._play(block, running)
                for scenario in block:
                    sides = self.results[scenario.name].items()
                    shown = ", ".join(f"{side} {runs[-1].counted.per_s:,.0f}/s" for side, runs in sides)
                    self.say(f"round {number} of {self.plan.rounds}, {scenario.title}: {shown}")

    async def _play(self, block: Sequence[Scenario], running: BaselineProcess | None) -> None:
        for scenario in block:
            ours = await self._side(self.stack.gateway, scenario, self.stack.pids(), self.plan.run_s)
            self._keep(scenario, OURS, ours)
        if running is None:
            return
        for form in FORMS:
            for scenario in block:
                await running.use_form(form, self.pools[scenario.name][form])
                theirs = await self._side(running.url, scenario, self._beside(running), self.plan.run_s)
                self._keep(scenario, form, theirs)

    def _keep(self, scenario: Scenario, side: str, run: Run) -> None:
        self.results.setdefault(scenario.name, {}).setdefault(side, []).append(run)

    def _beside(self, running: BaselineProcess) -> dict[str, int]:
        """The processes that spend CPU on the baseline's transfers."""
        pids = self.stack.pids()
        return {BASELINE: running.pid, **{name: pids[name] for name in SERVERS & pids.keys()}}

    async def _side(self, url: str, scenario: Scenario, roots: Mapping[str, int], seconds: float) -> Run:
        """A warm-up and a run of one side; what it cost in the processes `roots` and below."""
        target = Target(url, self.stack.admin_key, self._accounts, ASSET)
        await asyncio.to_thread(run_load, self.wrk, target, scenario.load, self.plan.warm_s)
        before = cpu_by_name(roots)
        counted = await asyncio.to_thread(run_load, self.wrk, target, scenario.load, seconds)
        return Run(counted, used(before, cpu_by_name(roots)))

    async def _idle(self) -> IdleUse | None:
        pids = self.stack.pids()
        return await measure_idle(pids, SERVERS, self.plan.idle_s) if pids else None

    async def _statuses(self) -> dict[str, int]:
        """How often each status was answered to a transfer, by the gateway's own count; empty if it does not tell."""
        url = self.stack.metrics.get("gateway-1")
        if url is None:
            return {}
        try:
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                text = await response.text()
        except aiohttp.ClientError:
            return {}
        return {
            sample.labels["status"]: int(sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == REQUESTS and sample.labels["route"] == TRANSFERS
        }

    def _verified(self) -> Mapping[str, object] | None:
        if self.stack.postgres is None:
            self.say("not verified: it needs the database, give --postgres")
            return None
        self.say("verifying the journal")
        return verified(self.stack)
