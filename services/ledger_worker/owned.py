"""What this worker owns: partitions, their leases and their lines."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.ledger_worker.core.line import Line, World
from services.ledger_worker.ports import Head, Lease
from shared.ids import Partition


@dataclass(slots=True, eq=False)
class Owned:
    """Lines being given back are `draining`: what was taken for them is finished.

    And they take and fold nothing more.
    """

    world: World
    lines: dict[Partition, Line] = field(default_factory=dict[Partition, Line])
    leases: dict[Partition, Lease] = field(default_factory=dict[Partition, Lease])
    draining: set[Partition] = field(default_factory=set[Partition])
    # A line was lost while decisions of it may be open: everything that is not committed must be decided again.
    is_stale: bool = False

    def begin(self, partition: Partition, head: Head) -> None:
        """A line with nothing in memory, from where its journal ends."""
        self.lines[partition] = Line(self.world, partition, head.batch, dict(head.cursors), committed=head.batch)

    def begin_again(self, heads: Mapping[Partition, Head], seen: Mapping[Partition, Line]) -> list[Partition]:
        """Those of the lines `seen` that are still the same begin anew; others were taken again since.

        With a newer head.
        """
        same = [partition for partition in heads if self.lines.get(partition) is seen[partition]]
        for partition in same:
            self.begin(partition, heads[partition])
        return same

    def end(self, partition: Partition) -> None:
        """The partition is another worker's from here on."""
        self.lines.pop(partition, None)
        self.leases.pop(partition, None)
        self.draining.discard(partition)

    def line_of(self, partition: Partition, queue: Partition) -> Line | None:
        """The line that decides a command of `partition` that came by `queue`; None: its next owner decides it.

        A line being given back finishes what was taken from its own queue. From another's, more would come for ever.
        """
        return None if partition in self.draining and partition != queue else self.lines.get(partition)

    def takeable(self) -> list[Partition]:
        """The partitions whose deliveries may be taken."""
        return [partition for partition in self.lines if partition not in self.draining]
