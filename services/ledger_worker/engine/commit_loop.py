"""The commit loop: takes deliveries, decides them in memory, commits them in groups, then replies and acknowledges.

While one group is being committed, the next is decided on top of it. A reply is sent only after every batch that its
decision builds on is committed. A failed commit discards decisions but keeps deliveries, to be decided again in order.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from services.ledger_worker import metrics
from services.ledger_worker.core.state import LedgerState
from services.ledger_worker.core.transit import close_transit
from services.ledger_worker.engine.apply import Apply, Prefetch
from services.ledger_worker.engine.dead_letters import DeadLetters
from services.ledger_worker.engine.group import CommitGroup
from services.ledger_worker.engine.intake import Inbox
from services.ledger_worker.engine.ownership import OwnedPartitions
from services.ledger_worker.engine.poison import PoisonIsolation
from services.ledger_worker.engine.post_commit import PostCommit
from services.ledger_worker.engine.progress import Progress
from services.ledger_worker.engine.recovery import Recovery
from services.ledger_worker.engine.transit_in import TransitIn
from services.ledger_worker.ports import Clock, Consumer, DecideAgain, Lease, Publisher, Store, StoreFault
from shared.domain.ids import Partition

# How many outcomes of commands, and facts of other partitions' accounts, a worker keeps in memory.
RECENT_MAX: Final = 200_000
FACTS_MAX: Final = 200_000


class CommitLoop:
    """One per worker. It owns the partitions that the lease keeper hands it."""

    def __init__(  # noqa: PLR0913 - wired once, every part named
        self,
        store: Store,
        inbox: Inbox,
        consumer: Consumer,
        publisher: Publisher,
        clock: Clock,
        *,
        partitions: int,
        commands_max: int,
        accounts_max: int,
        lease_ttl_s: float,
    ) -> None:
        self._store = store
        self._inbox = inbox
        self._consumer = consumer
        self._publisher = publisher
        self._clock = clock
        self._commands_max = commands_max
        self._accounts_max = accounts_max
        self.owned = OwnedPartitions(LedgerState(partitions))
        self._poison = PoisonIsolation()
        self._prefetch = Prefetch(store, self.owned, clock)
        self._apply = Apply(self.owned, self._poison, clock)
        self._transit_in = TransitIn(store, inbox, self.owned, self._prefetch, clock)
        self._dead_letters = DeadLetters(inbox, consumer, publisher, clock, self._notify_progress)
        self._post_commit = PostCommit(self.owned, inbox, publisher, self._dead_letters)
        self._recovery = Recovery(
            store, clock, inbox, self.owned, self._prefetch, self._transit_in, self._poison, lease_ttl_s=lease_ttl_s
        )
        # Being decided, being committed, and committed but not acknowledged yet.
        self._open, self._committing_group, self._finishing = CommitGroup(), CommitGroup(), CommitGroup()
        self._is_sealing = False
        self._committing: asyncio.Future[dict[Partition, int]] | None = None
        self._changed = asyncio.Condition()
        self.progress = Progress(inbox, consumer, self._dead_letters, clock, self._uncommitted)

    # What the lease keeper calls.

    async def add(self, lease: Lease) -> None:
        """Starts to serve a partition under a new lease, with an empty state in memory. Raises StoreUnavailable."""
        if lease.partition in self.owned.states:
            # Lost and taken again unnoticed: open decisions are void, unacknowledged deliveries must come again.
            await self.abandon(lease.partition)
        head = (await self._store.heads([lease.partition]))[lease.partition]
        self.owned.leases[lease.partition] = lease
        self.owned.begin(lease.partition, head)
        self._inbox.open(lease.partition)
        self._inbox.nudge_all()
        await self._consumer.open(lease.partition)

    async def give_back(self, partition: Partition) -> None:
        """Commits and acknowledges the deliveries already taken for the partition, then stops serving it."""
        if partition in self.owned.states:
            self.owned.states[partition].is_draining = True
        self._inbox.wake.set()
        async with self._changed:
            await self._changed.wait_for(lambda: not self._is_busy(partition))
        self._end(partition)
        await self._consumer.close(partition)

    async def abandon(self, partition: Partition) -> None:
        """Stops serving a partition at once, since its lease is lost. The fence rejects a commit still in flight."""
        if partition in self.owned.states:
            self.owned.is_stale = True
        self._end(partition)
        self._inbox.wake.set()
        await self._consumer.close(partition)
        await self._notify_progress()

    def is_connected(self) -> bool:
        """True while deliveries can come in and replies go out."""
        return self._consumer.is_ready() and self._publisher.is_ready()

    def leases(self) -> list[Lease]:
        """The leases that this worker holds."""
        return list(self.owned.leases.values())

    def accounts_cached(self) -> int:
        """Accounts in memory."""
        return self.owned.accounts_cached()

    # The loop.

    async def run(self) -> None:
        """Runs until cancelled. After a fault of the store it recovers; a broken invariant ends the process."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._dead_letters.run(), name="dead letters")
            group.create_task(self._run(), name="commits")

    async def _run(self) -> None:
        await self._recovery.read_journal(DecideAgain("nothing is read yet"))
        while True:
            await self._wait_for_work()
            try:
                await self._decide()
                if self._committing is None or self._committing.done():
                    await self._next_commit()
            except StoreFault as fault:
                await self._recover(fault)

    async def _wait_for_work(self) -> None:
        rows_due_s = self._transit_in.due_in_s(self._open) if self._committing is None else None
        if (self._room() > 0 and self._inbox.has_work(self._takeable())) or self.owned.is_stale or rows_due_s == 0:
            return
        self._inbox.wake.clear()
        if self._committing is None or not self._committing.done():
            with self.progress.waiting(is_idle=self._committing is None), contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rows_due_s):
                    await self._inbox.wake.wait()

    async def _decide(self) -> None:
        """Decides what has come in, on top of what was decided before, into the open group."""
        self._check_fresh()
        group, room = self._open, self._room()
        taken = self._inbox.take(self._takeable(), room) if room > 0 else []
        if not taken:
            return
        # In the open group before anything can fail, so that recovery puts them back.
        group.deliveries += taken
        await self._prefetch.for_commands(taken)
        self._check_fresh()
        for pending in taken:
            self._apply.apply(pending, group)

    async def _next_commit(self) -> None:
        """Collects a commit's result and replies, starts the next commit, then acknowledges and so on for the first."""
        group, recorded_at_us = await self._finish_commit()
        fault: StoreFault | None = None
        try:
            await self._start_commit()
        except StoreFault as raised:
            fault = raised
        if self._committing is None:
            await asyncio.sleep(0)  # nothing else is in flight, so the reply may be written before the rest is done
        # Whatever became of the next group, this one is in the journal.
        await self._after_commit(group, recorded_at_us)
        if fault is not None:
            raise fault

    async def _start_commit(self) -> None:
        """Takes in transit rows, seals the open batches and starts to commit the open group, without waiting."""
        self._check_fresh()
        group = self._open
        if self.owned.ledger.partitions > 1:
            self._is_sealing = True
            try:
                await self._transit_in.take_in(group)
            finally:
                self._is_sealing = False
            self._check_fresh()
            for partition in self.owned.states.values():
                close_transit(partition)
        for partition in self.owned.states.values():
            sealed = partition.seal(self.owned.leases[partition.partition].epoch)
            if sealed is not None:
                group.sealed.append(sealed)
        if not group.deliveries and not group.sealed:
            return
        self._open = CommitGroup()
        self._committing_group = group
        self._committing = asyncio.ensure_future(self._commit(group))  # noqa: TID251 - `_finish_commit` awaits it, and its fault is the loop's
        self._committing.add_done_callback(lambda _: self._inbox.wake.set())

    async def _commit(self, group: CommitGroup) -> dict[Partition, int]:
        if not group.sealed:
            return {}
        began_s = self._clock.monotonic_s()
        recorded_at_us = await self._store.commit(group.sealed)
        metrics.COMMIT_SECONDS.observe(self._clock.monotonic_s() - began_s)
        metrics.BATCH_COMMANDS.observe(len(group.decisions))
        return recorded_at_us

    async def _finish_commit(self) -> tuple[CommitGroup, dict[Partition, int]]:
        """Collects the result of the commit in flight, and replies. Raises its StoreFault if it failed."""
        if self._committing is None:
            return CommitGroup(), {}
        recorded_at_us = await self._committing  # done: does not wait, but raises
        group, self._committing, self._committing_group = self._committing_group, None, CommitGroup()
        self._finishing = group
        self._transit_in.committed(group)
        if self._recovery.is_active:
            self._recovery.committed(group.decided())
        for batch in group.sealed:
            partition = self.owned.states.get(batch.partition)
            if partition is not None:
                partition.committed = max(partition.committed, batch.batch)
        await self._post_commit.reply(group, recorded_at_us)
        return group, recorded_at_us

    async def _after_commit(self, group: CommitGroup, recorded_at_us: dict[Partition, int]) -> None:
        if group.deliveries or group.sealed:
            await self._post_commit.finish(group, recorded_at_us)
            self.owned.ledger.trim(RECENT_MAX, FACTS_MAX)
            self.owned.trim(self._accounts_max)
            self.progress.finished()
        self._finishing = CommitGroup()
        await self._notify_progress()

    async def _recover(self, fault: StoreFault) -> None:
        """Discards all uncommitted decisions, puts their deliveries back, and reads the journal again."""
        failed = CommitGroup()
        if self._committing is not None:
            await asyncio.wait({self._committing})
            try:
                finished = await self._finish_commit()
            except StoreFault as commit_fault:
                fault = commit_fault
                failed, self._committing_group, self._committing = self._committing_group, CommitGroup(), None
            else:
                await self._after_commit(*finished)
        self._inbox.put_back([*failed.deliveries, *self._open.deliveries])
        self._open = CommitGroup()
        await self._abandon_lost(await self._recovery.treat(fault, failed))
        await self._abandon_lost(await self._recovery.read_journal(fault))
        self.owned.is_stale = False
        await self._notify_progress()

    async def _abandon_lost(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            # If not equal, the partition was taken again meanwhile, under a newer lease.
            if self.owned.leases.get(lease.partition) == lease:
                await self.abandon(lease.partition)

    def _room(self) -> int:
        """How many commands more fit into the open group. What is suspect shares a group with nothing else."""
        if self._transit_in.has_suspected:
            return 0
        suspected_max = self._inbox.suspected_max(self._takeable())
        if (suspected_max is not None) != self._open.is_suspect and self._open.deliveries:
            return 0
        return (self._commands_max if suspected_max is None else suspected_max) - len(self._open.decisions)

    def _check_fresh(self) -> None:
        if self.owned.is_stale:
            raise DecideAgain("a partition was lost with decisions open")

    def _takeable(self) -> list[Partition]:
        return [
            partition
            for partition, state in self.owned.states.items()
            if not state.is_draining and not self._dead_letters.waits(partition)
        ]

    def _end(self, partition: Partition) -> None:
        self.owned.end(partition)
        self._inbox.close(partition)
        self._dead_letters.forget(partition)

    def _uncommitted(self) -> Sequence[CommitGroup]:
        return self._open, self._committing_group

    async def _notify_progress(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _is_busy(self, partition: Partition) -> bool:
        state = self.owned.states.get(partition)
        return state is not None and (
            self._is_sealing
            or self._dead_letters.is_untried(partition)
            or state.builder is not None
            or any(partition in group.partitions() for group in (*self._uncommitted(), self._finishing))
        )
