"""Honest batches without a broker: the worker's own core decides, its own store commits, batch by batch."""

from dataclasses import dataclass, field
from typing import Self

from services.ledger_worker.core.accounts import AccountFacts
from services.ledger_worker.core.decide import decide, deciding_account
from services.ledger_worker.core.outcomes import CommandContext, Decision
from services.ledger_worker.core.state import LedgerState, PartitionState
from services.ledger_worker.core.transit import close_transit, take_in, take_in_to_suspense
from services.ledger_worker.ports import Lease
from services.ledger_worker.store import PostgresStore
from shared.domain.ids import Partition, partition_of
from shared.journal.transit import decode_credits
from shared.messages import AccountCreate, Command
from tests.backends.databases import Database

OWNER = "journal-writer"
NOW_US = 1_700_000_000_000_000
LEASE_S = 3_600.0


@dataclass(slots=True)
class JournalWriter:
    """Owns every partition of one ledger. Use `async with`."""

    database: Database
    store: PostgresStore = field(init=False)
    ledger: LedgerState = field(init=False)
    partitions: dict[Partition, PartitionState] = field(default_factory=dict[Partition, PartitionState])
    leases: dict[Partition, Lease] = field(default_factory=dict[Partition, Lease])

    async def __aenter__(self) -> Self:
        self.store = PostgresStore(self.database.worker, OWNER)
        self.ledger = LedgerState(self.database.partitions, await self.store.assets())
        while (lease := await self.store.acquire(LEASE_S)) is not None:
            self.leases[lease.partition] = lease
            self.partitions[lease.partition] = PartitionState(self.ledger, lease.partition, 0, {})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.store.close()

    async def write(self, *commands: Command) -> list[Decision]:
        """Decides the commands in their partitions and commits one batch for each that has anything to write."""
        decisions = [self.decide(command) for command in commands]
        await self.commit()
        return decisions

    def decide(self, command: Command) -> Decision:
        """Decides one command into its partition's open batch."""
        account = deciding_account(command)
        partition = Partition(0) if account is None else partition_of(account, self.database.partitions)
        decision = decide(self.partitions[partition], command, CommandContext(None, NOW_US))
        if isinstance(command, AccountCreate) and decision.code is None:
            self.ledger.facts[command.account] = AccountFacts(command.asset)
        return decision

    async def settle(self, *, aside: bool = False) -> int:
        """Takes in every transit row that waits, each destination in one batch. `aside`: as if none could be read."""
        cursors = [
            (state.partition, source, state.cursors.get(source, 0))
            for state in self.partitions.values()
            for source in self.partitions
            if source != state.partition
        ]
        rows = (await self.store.pending_transit(cursors, 10_000, 2**40)).rows
        for row in rows:
            state = self.partitions[row.destination]
            if aside:
                take_in_to_suspense(state, row.source, row.batch, await self.store.transit_totals(row))
            else:
                take_in(state, row.source, row.batch, decode_credits(row.credits))
        await self.commit()
        return len(rows)

    async def commit(self) -> None:
        """Commits every open batch in one transaction."""
        for state in self.partitions.values():
            close_transit(state)
        sealed = [state.seal(self.leases[state.partition].epoch) for state in self.partitions.values()]
        if batches := [batch for batch in sealed if batch is not None]:
            await self.store.commit(batches)
