"""Honest batches without a broker: the worker's own core decides, its own store commits, batch by batch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from services.ledger_worker.core.accounts import AccountFacts
from services.ledger_worker.core.decide import Asking, Decision, decide
from services.ledger_worker.core.line import Line, World, batches_text
from services.ledger_worker.core.transit import fold_row, fold_to_suspense, write_transit_entries
from services.ledger_worker.ports import Lease, Sealed
from services.ledger_worker.store import PostgresStore
from shared.ids import Partition, Principal
from shared.messages import AccountCreate, Command, routed_by
from shared.transit_rows import decode_credits
from tests.backends.databases import Database

OWNER = "journal-writer"
NOW_US = 1_700_000_000_000_000
LEASE_S = 3_600.0


@dataclass(slots=True)
class JournalWriter:
    """Owns every partition of one ledger. Use `async with`."""

    database: Database
    store: PostgresStore = field(init=False)
    world: World = field(init=False)
    # Whether credits land in the commit of their debit, as where one worker owns both sides, or go through transit.
    clears: bool = False
    lines: dict[Partition, Line] = field(init=False)
    leases: dict[Partition, Lease] = field(default_factory=dict[Partition, Lease])

    async def __aenter__(self) -> Self:
        self.store = PostgresStore(self.database.worker, OWNER)
        self.world = World(self.database.partitions, await self.store.assets())
        self.lines = self.world.lines
        while (lease := await self.store.acquire(OWNER, LEASE_S)) is not None:
            self.leases[lease.partition] = lease
            self.lines[lease.partition] = Line(self.world, lease.partition, 0, {})
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
        account = routed_by(command)
        partition = Partition(0) if account is None else self.world.partition_of(account)
        for line in self.lines.values():
            line.is_draining = not self.clears
        decision = decide(self.lines[partition], command, Asking(None, NOW_US))
        if isinstance(command, AccountCreate) and decision.code is None:
            self.world.facts[command.account] = AccountFacts(command.asset, Principal(command.owner))
        return decision

    async def settle(self, *, aside: bool = False) -> int:
        """Folds every transit row that waits, each destination in one batch. `aside`: as if no row could be read."""
        cursors = [
            (line.partition, source, line.cursors.get(source, 0))
            for line in self.lines.values()
            for source in self.lines
            if source != line.partition
        ]
        rows = await self.store.pending_transit(cursors, 10_000)
        for row in rows:
            line = self.lines[row.destination]
            if aside:
                fold_to_suspense(line, row.source, row.batch, await self.store.transit_totals(row))
            else:
                fold_row(line, row.source, row.batch, decode_credits(row.credits))
        await self.commit()
        return len(rows)

    async def commit(self) -> None:
        """Commits every open batch in one transaction."""
        sealed: Sequence[Sealed] = [batch for line in self.lines.values() if (batch := self._seal(line)) is not None]
        if sealed:
            await self.store.commit(OWNER, sealed)

    def _seal(self, line: Line) -> Sealed | None:
        write_transit_entries(line)
        draft = line.close_draft()
        if draft is None:
            return None
        return Sealed(
            line.partition,
            draft.batch,
            self.leases[line.partition].epoch,
            draft.lines(),
            draft.assets,
            draft.account_changes,
            line.cursors_text(),
            batches_text(draft.cleared),
            draft.content_hash(),
        )
