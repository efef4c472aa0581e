"""The partitions that this worker owns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.ledger_worker.core.state import LedgerState, PartitionState
from services.ledger_worker.ports import JournalHead, Lease
from shared.domain.ids import Partition


@dataclass(slots=True, eq=False)
class OwnedPartitions:
    """Their leases and their state in memory.

    `is_stale`: a partition was lost while decisions of it may be open, so all that is not committed must be decided
    again.
    """

    ledger: LedgerState
    states: dict[Partition, PartitionState] = field(default_factory=dict[Partition, PartitionState])
    leases: dict[Partition, Lease] = field(default_factory=dict[Partition, Lease])
    is_stale: bool = False

    def begin(self, partition: Partition, head: JournalHead) -> None:
        """A partition with nothing in memory, from where its journal ends. One that was draining still is."""
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
        """Begins anew with those of the partitions `seen` that are still the same.

        The others were taken since `heads` was read, and have a newer head.
        """
        for partition, head in heads.items():
            if self.states.get(partition) is seen[partition]:
                self.begin(partition, head)

    def end(self, partition: Partition) -> None:
        """The partition is no longer this worker's."""
        self.states.pop(partition, None)
        self.leases.pop(partition, None)
