"""One run: load and faults side by side, then quiet, then the audit."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final

import aiohttp

from tellerline.chaos.audit import Audit, connected
from tellerline.chaos.client import Client
from tellerline.chaos.customer import MixCustomer
from tellerline.chaos.faults import Faults, Missed
from tellerline.chaos.load import ASSET, CLIENTS, Load
from tellerline.chaos.plan import Fault, plan
from tellerline.chaos.recovery import RecoveryProbes
from tellerline.chaos.report import Report
from tellerline.chaos.stack import Stack

QUIET_MAX_S: Final = 120.0
STRUCK_WITHIN_S: Final = 10.0
STRUCK_PAUSE_S: Final = 0.5
SAID_EVERY_S: Final = 15.0
READ_PARTITIONS = "SELECT partitions FROM ledger.constants"


class ChaosRun:
    """Hurts one stack for some minutes. `say` tells the user a line."""

    def __init__(self, stack: Stack, minutes: float, seed: int, say: Callable[[str], None]) -> None:
        self._stack = stack
        self._minutes = minutes
        self._say = say
        self._seed = seed
        self._faults = Faults(stack)
        self._report = Report(seed, minutes, tuple(dict.fromkeys(fault.kind.name for fault in plan(seed, minutes))))

    async def run(self) -> Report:
        """The report of the run. Raises StackGone, or what is in TRANSIENT_FAULTS when the database stays away."""
        lots = random.Random(self._seed)  # noqa: S311 - a load that can be repeated is wanted
        headers = {"Authorization": f"Bearer {self._stack.admin_key}"}
        async with (
            aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session,
            aiohttp.ClientSession() as stranger,
        ):
            client = Client(session, self._stack.gateways, lots)
            load = Load(client, f"run{time.time_ns() // 1_000_000:x}", lots)
            recovery = RecoveryProbes(session, self._stack, load.run, await self._partitions(), ASSET)
            await recovery.prepare()
            await load.prepare()
            customer = MixCustomer(stranger, self._stack.jobcoin)
            await self._under_load(load, recovery, customer)
            audit = Audit(self._stack, load, customer)
            await audit.audit()
        self._report.audited(client, audit)
        return self._report

    async def _under_load(self, load: Load, recovery: RecoveryProbes, customer: MixCustomer) -> None:
        self._say(f"{len(self._report.kinds_planned)} kinds of faults in {self._minutes:g} minutes, seed {self._seed}")
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            playing = [group.create_task(load.play()) for _ in range(CLIENTS)]
            playing.append(group.create_task(load.mix(customer)))
            saying = group.create_task(self._say_progress(load.client))
            async with asyncio.TaskGroup() as strikes:
                for fault in plan(self._seed, self._minutes):
                    strikes.create_task(self._strike(fault, began_s, recovery))
                await asyncio.sleep(self._minutes * 60)
            self._report.load_s = time.monotonic() - began_s
            load.stopping = True
            _, undecided = await asyncio.wait(playing, timeout=QUIET_MAX_S)
            for task in (*undecided, saying):
                task.cancel()

    async def _strike(self, fault: Fault, began_s: float, recovery: RecoveryProbes) -> None:
        await asyncio.sleep(max(0.0, began_s + fault.at_s - time.monotonic()))
        until_s = time.monotonic() + STRUCK_WITHIN_S
        while True:
            try:
                await self._faults.strike(fault)
                break
            except Missed as missed:  # the fault before has its target down: it is up again soon
                if time.monotonic() > until_s:
                    self._report.missed.append(str(missed))
                    return
                await asyncio.sleep(STRUCK_PAUSE_S)
        self._report.struck(fault.kind, await recovery.seconds(fault.kind))

    async def _say_progress(self, client: Client) -> None:
        while True:
            await asyncio.sleep(SAID_EVERY_S)
            self._say(f"{self._report.faults} faults, {len(client.decided)} commands decided, {len(client.open)} open")

    async def _partitions(self) -> int:
        session = await connected(self._stack.postgres)
        try:
            return int(await session.fetchval(READ_PARTITIONS))
        finally:
            await session.close()
