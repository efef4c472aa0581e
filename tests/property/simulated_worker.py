"""One worker process in the simulation: the real teller and lease keeper between twins."""

import asyncio
import random
from typing import Protocol

from services.ledger_worker.core.line import World
from services.ledger_worker.leases import LeaseKeeper
from services.ledger_worker.ports import Inbound
from services.ledger_worker.teller import Teller
from shared.ids import Partition
from tests.builders import SECRET
from tests.twins.bus import Broker, MemoryBus
from tests.twins.clock import LoopClock
from tests.twins.faults import Fault
from tests.twins.journal import Journal
from tests.twins.store import MemoryStore

PARTITIONS = 4
TTL_S, RENEW_S = 10.0, 2.0


class WorkerClock(LoopClock):
    """A frozen worker sleeps until it is thawed."""

    def __init__(self, gate: asyncio.Event) -> None:
        self._gate = gate

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        await self._gate.wait()


class Luck(Protocol):
    """What a worker needs of the simulation that it lives in."""

    lots: random.Random
    journal: Journal
    broker: Broker
    is_faulty: bool

    def fault(self, method: str) -> Fault | None: ...
    def delay(self) -> float: ...


class Worker:
    """One process: teller, keeper, store and bus."""

    def __init__(self, name: str, simulation: Luck) -> None:
        lots = simulation.lots
        self.name = name
        self.store = MemoryStore(simulation.journal, name, faults=simulation.fault, delay=simulation.delay)
        self.bus = MemoryBus(
            simulation.broker,
            deliver=self._deliver,
            nudged=self._nudged,
            lost=self._lost,
            delay=simulation.delay,
            nudge_is_lost=lambda: simulation.is_faulty and lots.random() < 0.3,
        )
        clock = WorkerClock(self.store.gate)
        self.teller = Teller(
            owner=name,
            store=self.store,
            bus=self.bus,
            clock=clock,
            world=World(PARTITIONS),
            secret=SECRET,
            commands_max=lots.choice((3, 20, 200)),
            accounts_max=lots.choice((2, 8, 1_000)),
            lease_ttl_s=TTL_S,
        )
        self.keeper = LeaseKeeper(
            owner=name,
            store=self.store,
            teller=self.teller,
            clock=clock,
            partitions=PARTITIONS,
            ttl_s=TTL_S,
            renew_s=RENEW_S,
        )
        loop = asyncio.get_running_loop()
        self.tasks = [loop.create_task(self.teller.run()), loop.create_task(self.keeper.run())]

    def _deliver(self, inbound: Inbound) -> None:
        self.teller.deliver(inbound)

    def _nudged(self, partition: Partition) -> None:
        self.teller.nudge(partition)

    def _lost(self, partition: Partition) -> None:
        self.teller.channel_lost(partition)

    def check(self) -> None:
        """Raises what a task of it has raised: a process that ends by itself is a fault here."""
        for task in self.tasks:
            if task.done() and not task.cancelled():
                task.result()

    def kill(self) -> None:
        """SIGKILL."""
        self.store.kill()
        if not self.bus.is_dead:
            self.bus.kill()
        for task in self.tasks:
            task.cancel()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.store.freeze()
        self.bus.is_frozen = True

    def thaw(self) -> None:
        """SIGCONT."""
        self.store.thaw()
        self.bus.is_frozen = False

    async def stop(self) -> None:
        """SIGTERM."""
        teller, keeping = self.tasks
        keeping.cancel()
        await asyncio.wait({keeping})
        await self.keeper.stop()
        teller.cancel()
        await asyncio.wait({teller})
