"""Writes honest batches through any ports.Store."""

from dataclasses import dataclass, field

from services.ledger_worker.core.decide import Asking, Decision, decide
from services.ledger_worker.core.line import Line, World
from services.ledger_worker.group import Group
from services.ledger_worker.owned import Owned
from services.ledger_worker.ports import Lease, Sealed, Store
from services.ledger_worker.sealing import seal_drafts
from shared.ids import Partition
from shared.messages import Command, routed_by

PARTITIONS = 4
TTL_S = 60.0


@dataclass(slots=True)
class Scribe:
    """Owns the partitions that it could take, and their lines."""

    store: Store
    owner: str
    owned: Owned = field(default_factory=lambda: Owned(World(PARTITIONS)))

    async def begin(self, ttl_s: float = TTL_S) -> "Scribe":
        """Takes what is free."""
        self.owned.world.assets = await self.store.assets()
        while (lease := await self.store.acquire(self.owner, ttl_s)) is not None:
            self.take(lease)
        for partition, head in (await self.store.heads(list(self.owned.leases))).items():
            self.owned.begin(partition, head)
        return self

    def take(self, lease: Lease) -> None:
        """Goes on under this lease."""
        self.owned.leases[lease.partition] = lease

    def line(self, partition: int) -> Line:
        """One of its lines."""
        return self.owned.lines[Partition(partition)]

    def send_through_transit(self) -> None:
        """From here on no line lands credits of another in the commit of their debit, as if it were given back."""
        for line in self.owned.lines.values():
            line.is_draining = True

    def decide(self, *commands: Command) -> list[Decision]:
        """Decides into the open drafts."""
        decisions: list[Decision] = []
        for command in commands:
            account = routed_by(command)
            partition = Partition(0) if account is None else self.owned.world.partition_of(account)
            decisions.append(decide(self.owned.lines[partition], command, Asking("reply", 0)))
            for line in self.owned.lines.values():
                for known in line.accounts.values():
                    self.owned.world.learn(known)
        return decisions

    def seal(self) -> list[Sealed]:
        """The batches that the next commit would write."""
        group = Group()
        seal_drafts(self.owned, group)
        return group.sealed

    async def write(self, *commands: Command) -> dict[Partition, int]:
        """Decides and commits; recorded_at in µs."""
        self.decide(*commands)
        return await self.store.commit(self.owner, self.seal())
