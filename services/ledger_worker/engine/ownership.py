"""Which partitions this worker owns: their leases and their state in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.ledger_worker.core.state import DROPPED_AT_ONCE_PART, LedgerState, PartitionState
from services.ledger_worker.ports import JournalHead, Lease
from shared.domain.ids import Partition


@dataclass(slots=True, eq=False)
class OwnedPartitions:
    """The partitions owned now, and the ledger state that they share.

    `is_stale`: a partition was lost while it may have had uncommitted decisions, so everything that is not committed
    must be decided again.
    """

    ledger: LedgerState
    states: dict[Partition, PartitionState] = field(default_factory=dict[Partition, PartitionState])
    leases: dict[Partition, Lease] = field(default_factory=dict[Partition, Lease])
    is_stale: bool = False

    def begin(self, partition: Partition, head: JournalHead) -> None:
        """Gives the partition an empty state that continues at the end of its journal. Keeps `is_draining`."""
        before = self.states.get(partition)
        self.states[partition] = PartitionState(
            self.ledger,
            partition,
            head.batch,
            dict(head.cursors),
            committed=head.batch,
            is_draining=before is not None and before.is_draining,
        )

    def restart(self, heads: Mapping[Partition, JournalHead], seen: Mapping[Partition, PartitionState]) -> None:
        """Begins again with the partitions whose state is still the one in `seen`, from before `heads` was read.

        A partition that was lost or taken again since then has no state or a newer one, and is skipped.
        """
        for partition, head in heads.items():
            if self.states.get(partition) is seen[partition]:
                self.begin(partition, head)

    def accounts_cached(self) -> int:
        """Accounts in memory, of all partitions."""
        return sum(len(partition.accounts) for partition in self.states.values())

    def trim(self, accounts_max: int) -> None:
        """Evicts holds, and accounts once there are 1/16 more than the bound: each partition keeps its share of all."""
        cached = self.accounts_cached()
        is_over = cached > accounts_max + accounts_max // DROPPED_AT_ONCE_PART
        for partition in self.states.values():
            count = len(partition.accounts)
            partition.trim(count * accounts_max // cached if is_over else count)

    def end(self, partition: Partition) -> None:
        """The partition is no longer this worker's."""
        self.states.pop(partition, None)
        self.leases.pop(partition, None)
