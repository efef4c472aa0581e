"""Dead letters: while one cannot be published, its partition waits for it, and the other partitions go on."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Literal

import structlog

from services.ledger_worker import metrics
from services.ledger_worker.engine.intake import Inbox, PendingDelivery
from services.ledger_worker.ports import Clock, Consumer, Publisher
from shared.broker.channels import PublishFailed
from shared.domain.ids import Partition
from shared.domain.values import value
from shared.runtime.retry import backoff_s

log = structlog.get_logger()

FAULT_CHARACTERS_MAX: Final = 300


@value
class OutgoingDeadLetter:
    """A copy of the delivery to be published. `label`: the metric's reason."""

    pending: PendingDelivery
    reason: str
    label: Literal["unreadable", "poison"]


class DeadLetters:
    """Publishes dead letters, and acknowledges deliveries: each once the dead letters before it are confirmed.

    What is given up with its partition comes again, and its next owner publishes it: an unreadable delivery is
    unreadable there too, and a redelivered command whose outcome is `internal_error` gets another copy. So no dead
    letter is lost, and one may come twice.
    """

    def __init__(
        self,
        inbox: Inbox,
        consumer: Consumer,
        publisher: Publisher,
        clock: Clock,
        progressed: Callable[[], Awaitable[None]],
    ) -> None:
        self._inbox = inbox
        self._consumer = consumer
        self._publisher = publisher
        self._clock = clock
        self._progressed = progressed
        # What waits, in order: letters, and deliveries to be acknowledged behind them.
        self._queues: dict[Partition, deque[OutgoingDeadLetter | PendingDelivery]] = {}
        self._faults: dict[Partition, str] = {}
        self._has_letters = asyncio.Event()

    def add(self, letter: OutgoingDeadLetter) -> None:
        """From now on the partition waits until this is published."""
        self._queues.setdefault(letter.pending.delivery.partition, deque()).append(letter)
        self._has_letters.set()

    def acknowledge(self, pending: PendingDelivery) -> None:
        """Acknowledges the delivery, now or behind the letters for which its partition waits."""
        queue = self._queues.get(pending.delivery.partition)
        if queue is None:
            self._consumer.acknowledge(pending.delivery)
        else:
            queue.append(pending)

    def forget(self, partition: Partition) -> None:
        """The partition is no longer this worker's, so its next owner publishes what waits."""
        self._queues.pop(partition, None)
        self._faults.pop(partition, None)

    def waits(self, partition: Partition) -> bool:
        """Whether the partition waits for a dead letter."""
        return partition in self._queues

    def is_untried(self, partition: Partition) -> bool:
        """Whether the partition waits, and nothing has failed yet."""
        return partition in self._queues and partition not in self._faults

    def fault(self, partition: Partition) -> str | None:
        """Why the dead letter for which the partition waits could not be published; None while nothing failed."""
        return self._faults.get(partition)

    async def run(self) -> None:
        """Publishes until cancelled; tries again what fails."""
        attempt = 0
        while True:
            if not self._queues:
                self._has_letters.clear()
                await self._has_letters.wait()
            published = [await self._publish(partition) for partition in list(self._queues)]
            self._inbox.wake.set()  # what waited may be decided now
            await self._progressed()
            if all(published):
                attempt = 0
            else:
                await self._clock.sleep(backoff_s(attempt))
                attempt += 1

    async def _publish(self, partition: Partition) -> bool:
        """Publishes what waits for one partition; False when the broker does not take it."""
        queue = self._queues.get(partition)
        while queue:
            first = queue[0]
            if isinstance(first, PendingDelivery):
                self._consumer.acknowledge(first.delivery)
            else:
                fault = await self._try(first)
                if self._queues.get(partition) is not queue:
                    return True  # forgotten meanwhile
                if fault is not None:
                    self._faults[partition] = fault[:FAULT_CHARACTERS_MAX]
                    return False
            queue.popleft()
        self.forget(partition)
        return True

    async def _try(self, letter: OutgoingDeadLetter) -> str | None:
        """Publishes one letter. Returns the fault, or None once the broker has confirmed it."""
        partition = letter.pending.delivery.partition
        try:
            await self._publisher.dead_letter(letter.pending.delivery, letter.reason)
        except PublishFailed as fault:
            log.warning("dead_letter.failed", partition=partition, fault=repr(fault))
            return repr(fault)
        log.error("message.dead_lettered", partition=partition, reason=letter.reason)
        metrics.DEAD_LETTERS.labels(letter.label).inc()
        return None
