"""Writes honest batches through any ports.Store."""

from dataclasses import dataclass, field

from services.ledger_worker.core.accounts import AccountFacts, Status
from services.ledger_worker.core.batch import SealedBatch
from services.ledger_worker.core.decide import decide, deciding_account
from services.ledger_worker.core.outcomes import CommandContext, Decision
from services.ledger_worker.core.state import LedgerState, PartitionState
from services.ledger_worker.core.transit import close_transit
from services.ledger_worker.engine.ownership import OwnedPartitions
from services.ledger_worker.ports import Store
from shared.domain.ids import Partition, partition_of
from shared.messages import Command

PARTITIONS = 4
TTL_S = 60.0


@dataclass(slots=True)
class Scribe:
    """Owns the partitions that it could take, with their state in memory."""

    store: Store
    owned: OwnedPartitions = field(default_factory=lambda: OwnedPartitions(LedgerState(PARTITIONS)))

    async def begin(self, ttl_s: float = TTL_S) -> "Scribe":
        """Takes what is free."""
        self.owned.ledger.assets = await self.store.assets()
        while (lease := await self.store.acquire(ttl_s)) is not None:
            self.owned.leases[lease.partition] = lease
        for partition, head in (await self.store.heads(list(self.owned.leases))).items():
            self.owned.begin(partition, head)
        return self

    def state(self, partition: int) -> PartitionState:
        """One of its partitions."""
        return self.owned.states[Partition(partition)]

    def decide(self, *commands: Command) -> list[Decision]:
        """Decides into the open batches."""
        decisions: list[Decision] = []
        for command in commands:
            account = deciding_account(command)
            partition = Partition(0) if account is None else partition_of(account, PARTITIONS)
            decisions.append(decide(self.owned.states[partition], command, CommandContext("reply", 0)))
            for state in self.owned.states.values():
                for known in state.accounts.values():
                    self.owned.ledger.facts[known.id] = AccountFacts(known.asset, known.status is Status.CLOSED)
        return decisions

    def seal(self) -> list[SealedBatch]:
        """The batches that the next commit would write."""
        for state in self.owned.states.values():
            close_transit(state)
        leases = self.owned.leases
        sealed = [state.seal(leases[partition].epoch) for partition, state in self.owned.states.items()]
        return [batch for batch in sealed if batch is not None]

    async def write(self, *commands: Command) -> dict[Partition, int]:
        """Decides and commits; recorded_at in microseconds."""
        self.decide(*commands)
        return await self.store.commit(self.seal())
