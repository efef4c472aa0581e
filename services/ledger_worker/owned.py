"""What this worker owns: partitions, their leases and their lines."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.ledger_worker.core.line import Line, World
from services.ledger_worker.ports import Head, Lease
from shared.ids import Partition


@dataclass(slots=True, eq=False)
class Owned:
    """The lines are the world's, since each lands credits in the others."""

    world: World
    leases: dict[Partition, Lease] = field(default_factory=dict[Partition, Lease])
    # A line was lost while decisions of it may be open: everything that is not committed must be decided again.
    is_stale: bool = False

    @property
    def lines(self) -> dict[Partition, Line]:
        """Partition → line."""
        return self.world.lines

    def begin(self, partition: Partition, head: Head) -> None:
        """A line with nothing in memory, from where its journal ends. One that was draining still is."""
        before = self.lines.get(partition)
        self.lines[partition] = Line(
            self.world,
            partition,
            head.batch,
            dict(head.cursors),
            committed=head.batch,
            is_draining=before is not None and before.is_draining,
        )

    def begin_again(self, heads: Mapping[Partition, Head], seen: Mapping[Partition, Line]) -> None:
        """Those of the lines `seen` that are still the same begin anew; others were taken since, with a newer head."""
        for partition, head in heads.items():
            if self.lines.get(partition) is seen[partition]:
                self.begin(partition, head)

    def end(self, partition: Partition) -> None:
        """The partition is another worker's from here on."""
        self.lines.pop(partition, None)
        self.leases.pop(partition, None)

    def line_of(self, partition: Partition, queue: Partition) -> Line | None:
        """The line that decides a command of `partition` that came by `queue`; None: its next owner decides it.

        A line being given back finishes what was taken from its own queue. From another's, more would come for ever.
        """
        line = self.lines.get(partition)
        return None if line is not None and line.is_draining and partition != queue else line

    def takeable(self) -> list[Partition]:
        """The partitions whose deliveries may be taken."""
        return [partition for partition, line in self.lines.items() if not line.is_draining]
