"""One worker process in the simulation: the real engine between twins."""

import asyncio
import random
from typing import Protocol

from services.ledger_worker.engine.commit_loop import CommitLoop
from services.ledger_worker.engine.intake import Inbox
from services.ledger_worker.engine.leases import LeaseKeeper
from tests.builders import SECRET
from tests.twins.broker import MemoryBroker, MemoryConnection
from tests.twins.clock import LoopClock
from tests.twins.faults import Fault
from tests.twins.journal import Journal
from tests.twins.store import MemoryStore

TTL_S, RENEW_S = 10.0, 2.0


class WorkerClock(LoopClock):
    """A frozen worker sleeps until it is thawed."""

    def __init__(self, gate: asyncio.Event) -> None:
        self._gate = gate

    async def sleep(self, seconds: float, /) -> None:
        await super().sleep(seconds)
        await self._gate.wait()


class Environment(Protocol):
    """What a worker needs of the simulation that it lives in."""

    rng: random.Random
    partitions: int
    journal: Journal
    broker: MemoryBroker
    is_faulty: bool

    def fault(self, method: str) -> Fault | None: ...
    def delay(self) -> float: ...


class SimulatedWorker:
    """One process: commit loop, lease keeper, store and connection."""

    def __init__(self, name: str, environment: Environment) -> None:
        rng, partitions = environment.rng, environment.partitions
        self.name = name
        self.store = MemoryStore(environment.journal, name, faults=environment.fault, delay=environment.delay)
        clock = WorkerClock(self.store.gate)
        self.inbox = Inbox(partitions, [SECRET], clock)
        self.connection = MemoryConnection(
            environment.broker,
            self.inbox,
            delay=environment.delay,
            is_nudge_lost=lambda: environment.is_faulty and rng.random() < 0.3,
        )
        self.loop = CommitLoop(
            self.store,
            self.inbox,
            self.connection,
            self.connection,
            clock,
            partitions=partitions,
            commands_max=rng.choice((3, 20, 200)),
            accounts_max=rng.choice((2, 8, 1_000)),
            lease_ttl_s=TTL_S,
        )
        self.keeper = LeaseKeeper(
            name, self.store, self.loop, self.inbox, clock, partitions=partitions, ttl_s=TTL_S, renew_s=RENEW_S
        )
        loop = asyncio.get_running_loop()
        self.tasks = [loop.create_task(self.loop.run()), loop.create_task(self.keeper.run())]

    def check(self) -> None:
        """Raises what one of its tasks has raised: a process that ends by itself is a fault here."""
        for task in self.tasks:
            if task.done() and not task.cancelled():
                task.result()

    def kill(self) -> None:
        """SIGKILL."""
        self.store.kill()
        if not self.connection.is_dead:
            self.connection.kill()
        for task in self.tasks:
            task.cancel()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.store.freeze()
        self.connection.is_frozen = True

    def thaw(self) -> None:
        """SIGCONT."""
        self.store.thaw()
        self.connection.is_frozen = False

    async def stop(self) -> None:
        """SIGTERM."""
        await self.keeper.stop()
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)
