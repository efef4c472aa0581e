"""Whether the commands of a worker's partitions are being decided, and if not, why."""

import contextlib
from collections.abc import Callable, Generator, Iterable
from typing import Final

from services.ledger_worker.engine.dead_letters import DeadLetters
from services.ledger_worker.engine.group import CommitGroup
from services.ledger_worker.engine.intake import Inbox
from services.ledger_worker.ports import Clock, Consumer
from shared.domain.ids import Partition

# A partition whose oldest command has waited longer than this many seconds is said to decide nothing.
UNDECIDED_S_MAX: Final = 10.0
# So is every partition of a worker that has had work for so many seconds and finished none of it.
STALLED_S_MAX: Final = 8.0


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
        self._busy_since_s: float | None = clock.monotonic_s()

    @contextlib.contextmanager
    def waiting(self, *, is_idle: bool) -> Generator[None]:
        """Around the commit loop's wait. `is_idle`: it waits because there is nothing to do."""
        if is_idle:
            self._busy_since_s = None
        yield
        if is_idle:
            self._busy_since_s = self._clock.monotonic_s()

    def finished(self) -> None:
        """The commit loop has finished a commit."""
        self._busy_since_s = self._clock.monotonic_s()

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
        if age_s > UNDECIDED_S_MAX:
            return f"its oldest command has waited for {age_s:.0f} s"
        stalled_s = 0.0 if self._busy_since_s is None else self._clock.monotonic_s() - self._busy_since_s
        return f"its worker has finished nothing for {stalled_s:.0f} s" if stalled_s > STALLED_S_MAX else None
