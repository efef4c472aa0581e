"""Whether the partitions of a worker are decided, and if not, why."""

from collections.abc import Callable, Iterable
from typing import Final

from services.ledger_worker.engine.dead_letters import DeadLetters
from services.ledger_worker.engine.group import CommitGroup
from services.ledger_worker.engine.intake import Inbox
from services.ledger_worker.ports import Clock, Consumer
from shared.domain.ids import Partition

# A partition whose oldest command has waited longer than this many seconds is said to decide nothing.
UNDECIDED_S_MAX: Final = 10.0


class Progress:
    """Looks at what waits. `groups`: those that are not committed."""

    def __init__(
        self,
        inbox: Inbox,
        consumer: Consumer,
        dead_letters: DeadLetters,
        clock: Clock,
        groups: Callable[[], Iterable[CommitGroup]],
    ) -> None:
        self._inbox = inbox
        self._consumer = consumer
        self._dead_letters = dead_letters
        self._clock = clock
        self._groups = groups

    def oldest_undecided_s(self, partition: Partition | None = None) -> float:
        """Age in seconds of the oldest delivery that is not committed, of one partition or all; 0 if there is none."""
        waiting = [*self._inbox.first(), *(pending for group in self._groups() for pending in group.deliveries)]
        since_s = [pending.since_s for pending in waiting if partition in {None, pending.delivery.partition}]
        return self._clock.monotonic_s() - min(since_s) if since_s else 0.0

    def why_waits(self, partition: Partition) -> str | None:
        """Why nothing is decided in this partition; None while it goes on."""
        if (fault := self._dead_letters.fault(partition)) is not None:
            return f"a dead letter cannot be published: {fault}"
        if not self._consumer.is_consuming(partition):
            return "its queue is not consumed"
        age_s = self.oldest_undecided_s(partition)
        return f"its oldest command has waited for {age_s:.0f} s" if age_s > UNDECIDED_S_MAX else None
