"""A commit group: what is decided together and committed in one transaction."""

from dataclasses import dataclass, field

from services.ledger_worker.core.batch import SealedBatch
from services.ledger_worker.core.outcomes import Decision
from services.ledger_worker.core.transit import LandedCredit
from services.ledger_worker.engine.intake import PendingDelivery
from services.ledger_worker.ports import TransitRow
from shared.domain.ids import Partition
from shared.messages import Command


@dataclass(slots=True, eq=False)
class CommitGroup:
    """Filled while the previous group is being committed; then sealed, committed, replied to and acknowledged."""

    deliveries: list[PendingDelivery] = field(default_factory=list[PendingDelivery])
    # The deciding partition, the sender's reply queue, and the decision.
    decisions: list[tuple[Partition, str | None, Decision]] = field(
        default_factory=list[tuple[Partition, str | None, Decision]]
    )
    transit_rows: list[TransitRow] = field(default_factory=list[TransitRow])  # taken in from other partitions
    landed: list[tuple[Partition, LandedCredit]] = field(default_factory=list[tuple[Partition, LandedCredit]])
    sealed: list[SealedBatch] = field(default_factory=list[SealedBatch])
    # Commands that were accused: the delivery, the command's id and the reason.
    poisoned: list[tuple[PendingDelivery, str, str]] = field(default_factory=list[tuple[PendingDelivery, str, str]])

    @property
    def is_suspect(self) -> bool:
        """Whether it holds what is suspect in the search for a poison command. Then it must hold nothing else."""
        return bool(self.deliveries) and self.deliveries[0].is_suspect

    def commands(self) -> list[Command]:
        """The commands of its deliveries."""
        return [command for pending in self.deliveries for command in pending.commands]

    def decided(self) -> list[str]:
        """The ids of all commands that it decides or gives up."""
        return [decision.id for _, _, decision in self.decisions] + [identity for _, identity, _ in self.poisoned]

    def partitions(self) -> set[Partition]:
        """The partitions with a delivery or a batch in the group."""
        return {
            *(pending.delivery.partition for pending in self.deliveries),
            *(batch.partition for batch in self.sealed),
        }
