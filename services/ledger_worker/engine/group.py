"""A commit group: what is decided together and committed in one transaction."""

from dataclasses import dataclass, field

from services.ledger_worker.core.batch import SealedBatch
from services.ledger_worker.core.outcomes import Decision
from services.ledger_worker.core.transit import LandedCredit
from services.ledger_worker.engine.intake import PendingDelivery
from services.ledger_worker.ports import TransitRow
from shared.domain.ids import Partition


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
    poisoned: list[tuple[PendingDelivery, str]] = field(default_factory=list[tuple[PendingDelivery, str]])

    def partitions(self) -> set[Partition]:
        """The partitions with a delivery or a batch in the group."""
        return {
            *(pending.delivery.partition for pending in self.deliveries),
            *(batch.partition for batch in self.sealed),
        }
