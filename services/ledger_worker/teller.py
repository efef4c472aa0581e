"""The teller: takes what came in, decides it in memory, commits it in groups, then answers and acknowledges.

While one group is being committed the next is decided on top of it. No answer leaves before every batch that it was
decided on is committed. A failed commit drops decisions and keeps deliveries: they are decided again, in the same
order.
"""

import asyncio
from typing import Final

from services.ledger_worker import metrics
from services.ledger_worker.core.line import World
from services.ledger_worker.deciding import Deciding
from services.ledger_worker.folding import Folding
from services.ledger_worker.group import Group
from services.ledger_worker.intake import EnvelopeReader, Intake
from services.ledger_worker.loading import Loading
from services.ledger_worker.owned import Owned
from services.ledger_worker.ports import Bus, Clock, Inbound, Lease, Redo, Store, StoreFault
from services.ledger_worker.recovery import Recovery
from services.ledger_worker.sealing import seal_drafts
from services.ledger_worker.suspects import Suspects
from services.ledger_worker.telling import Telling
from shared.ids import Partition

RECENT_MAX: Final = 200_000
FACTS_MAX: Final = 500_000


class Teller:
    """One per worker; owns the lines that `LeaseKeeper` hands it."""

    def __init__(  # noqa: PLR0913 - wired once, every part named
        self,
        *,
        owner: str,
        store: Store,
        bus: Bus,
        clock: Clock,
        world: World,
        secret: str,
        commands_max: int,
        accounts_max: int,
        lease_ttl_s: float,
    ) -> None:
        self._owner = owner
        self._store = store
        self._bus = bus
        self._clock = clock
        self._world = world
        self._accounts_max = accounts_max
        self._owned = Owned(world)
        self.lines = self._owned.lines
        self._intake = Intake(EnvelopeReader(world, secret))
        self._inbox = self._intake.inbox
        self._loading = Loading(store, world, self.lines, clock)
        self._folding = Folding(store, self._loading, self._owned)
        self._suspects = Suspects(commands_max)
        self._deciding = Deciding(self._owned, self._suspects, clock)
        self._telling = Telling(worker=owner, owned=self._owned, bus=bus, clock=clock, folding=self._folding)
        self._recovery = Recovery(
            owner=owner,
            store=store,
            clock=clock,
            owned=self._owned,
            loading=self._loading,
            folding=self._folding,
            suspects=self._suspects,
            lease_ttl_s=lease_ttl_s,
            abandon=self.abandon,
        )
        self._wake = asyncio.Event()
        self._quiet = asyncio.Condition()
        self._open = Group()
        self._is_sealing = False
        self._committing: asyncio.Future[dict[Partition, int]] | None = None
        self._committed_group = Group()

    # What the bus and the lease keeper call.

    def deliver(self, inbound: Inbound) -> None:
        """Takes a delivery in; never waits. One that cannot be read is parked in its turn."""
        line = self.lines.get(inbound.partition)
        if line is None or (line.is_draining and inbound.is_ahead):
            return  # given back or lost: its channel is being closed, and the broker delivers to the next owner
        finished = self._intake.add(inbound, self._clock.monotonic_s())
        if finished is not None:
            self._bus.acknowledge(finished)
        self._wake.set()

    def nudge(self, _: Partition) -> None:
        """Transit rows of other workers may wait."""
        self._folding.due = True
        self._wake.set()

    def channel_lost(self, partition: Partition) -> None:
        """What waits of the broker's came over a channel that is gone: it will be delivered again."""
        self._intake.inbox.drop_delivered(partition)

    def hears(self) -> bool:
        """Whether deliveries can come in and answers go out."""
        return self._bus.is_ready()

    async def add(self, lease: Lease) -> None:
        """Begins a line under a new lease, with nothing in memory. Raises StoreUnavailable."""
        if lease.partition in self.lines:
            # Lost and taken again before anybody noticed: what is open or not acknowledged must come again.
            await self.abandon(lease.partition)
        head = (await self._store.heads([lease.partition]))[lease.partition]
        self._owned.leases[lease.partition] = lease
        self._owned.begin(lease.partition, head)
        self._folding.due = True
        await self._bus.open(lease.partition)
        self._wake.set()

    async def give_back(self, partition: Partition) -> None:
        """Finishes and acknowledges what was decided for the line, then closes it: the rest goes to the next owner."""
        if partition in self.lines:
            self.lines[partition].is_draining = True
        self._wake.set()
        async with self._quiet:
            await self._quiet.wait_for(lambda: not self._is_busy(partition))
        self._end(partition)
        await self._bus.close(partition)

    async def abandon(self, partition: Partition) -> None:
        """Ends a line at once: its lease is lost. The fence keeps out what is still on its way to the database."""
        if partition in self.lines:
            self._owned.is_stale = True
        self._end(partition)
        self._wake.set()
        await self._bus.close(partition)
        await self._tell_quiet()

    def leases(self) -> list[Lease]:
        """What this worker holds."""
        return list(self._owned.leases.values())

    def oldest_undecided_s(self) -> float:
        """Age in seconds of the oldest delivery that is not committed."""
        began = [group.began_s for group in (self._open, self._committed_group) if group.deliveries]
        ages = [self._inbox.oldest_s(), *began]
        known = [age for age in ages if age is not None]
        return self._clock.monotonic_s() - min(known) if known else 0.0

    # The loop.

    async def run(self) -> None:
        """Serves until cancelled. A fault of the store is retried; a broken invariant ends the process."""
        await self._recovery.read_truth(Redo("nothing is read yet"))
        while True:
            await self._wait_for_work()
            try:
                await self._absorb()
                if self._committing is None or self._committing.done():
                    await self._turn()
            except StoreFault as fault:
                await self._recover(fault)

    async def _turn(self) -> None:
        """Takes the result of one commit and answers, starts the next, and only then tells the rest (ADR 12)."""
        finished = await self._finish()
        fault: StoreFault | None = None
        try:
            await self._seal()
        except StoreFault as raised:
            fault = raised
        if self._committing is None:
            await asyncio.sleep(0)  # nothing else is under way: the answer is written before the rest is seen to
        # Whatever befell the next group: this one is in the journal.
        await self._tell(*finished)
        if fault is not None:
            raise fault

    async def _wait_for_work(self) -> None:
        has_room = self._open.commands < self._suspects.limit and not self._folding.is_suspect
        folds = self._committing is None and self._folding.due and bool(self.lines)
        if (has_room and self._inbox.has_work(self._owned.takeable())) or self._owned.is_stale or folds:
            return
        self._wake.clear()
        if self._committing is None or not self._committing.done():
            await self._wake.wait()

    async def _absorb(self) -> None:
        """Decides what has come in, on top of what was decided before, into the open group."""
        self._check_fresh()
        room = self._suspects.limit - self._open.commands
        if room <= 0 or self._folding.is_suspect:
            return
        taken = self._inbox.take(self._owned.takeable(), room, split=self._suspects.is_searching)
        if not taken:
            return
        if not self._open.deliveries:
            self._open.began_s = taken[0].since_s
        # They are the open group's from here on, so that a fault while loading loses none.
        self._open.deliveries.extend(taken)
        await self._loading.for_commands(taken)
        self._check_fresh()
        for opened in taken:
            self._deciding.decide(opened, self._open)

    async def _seal(self) -> None:
        """Folds what waits in transit, closes the drafts and starts the commit of the open group."""
        self._check_fresh()
        group = self._open
        self._is_sealing = True
        try:
            await self._folding.fold(group)
        finally:
            self._is_sealing = False
        self._check_fresh()
        seal_drafts(self._owned, group)
        if not group.deliveries and not group.sealed:
            return
        self._open = Group()
        self._committed_group = group
        self._committing = asyncio.ensure_future(self._commit(group))  # noqa: TID251 - `_finish` awaits it, and its fault is the loop's
        self._committing.add_done_callback(lambda _: self._wake.set())

    def _check_fresh(self) -> None:
        if self._owned.is_stale:
            raise Redo("a line was lost with decisions open")

    async def _commit(self, group: Group) -> dict[Partition, int]:
        if not group.sealed:
            return {}
        began = self._clock.monotonic_s()
        recorded = await self._store.commit(self._owner, group.sealed)
        metrics.COMMIT_SECONDS.observe(self._clock.monotonic_s() - began)
        metrics.BATCH_COMMANDS.observe(group.commands)
        return recorded

    async def _finish(self) -> tuple[Group, dict[Partition, int]]:
        """Takes the result of the commit that has ended, and answers. Raises its fault."""
        if self._committing is None:
            return Group(), {}
        recorded = await self._committing  # done: does not wait, but raises
        group, self._committing = self._committed_group, None
        self._committed_group = Group()
        self._recovery.ease()
        self._folding.ease()
        self._suspects.ease(decision.id for _, _, decision in group.decisions)
        for sealed in group.sealed:
            line = self.lines.get(sealed.partition)
            if line is not None:
                line.committed = max(line.committed, sealed.batch)
        await self._telling.answer(group, recorded)
        return group, recorded

    async def _tell(self, group: Group, recorded_at_us: dict[Partition, int]) -> None:
        if group.deliveries or group.sealed:
            await self._telling.tell(group, recorded_at_us)
            self._world.trim(RECENT_MAX, FACTS_MAX)
            for line in self.lines.values():
                line.trim(self._accounts_max)
        await self._tell_quiet()

    async def _recover(self, fault: StoreFault) -> None:
        """Drops every decision that is not committed and puts its deliveries back; then reads the truth."""
        failed = Group()
        if self._committing is not None:
            await asyncio.wait({self._committing})
            try:
                finished = await self._finish()
            except StoreFault as commit_fault:
                fault = commit_fault
                failed, self._committed_group, self._committing = self._committed_group, Group(), None
            else:
                await self._tell(*finished)
        self._inbox.put_back(
            [
                opened
                for opened in [*failed.deliveries, *self._open.deliveries]
                if opened.inbound.partition in self.lines
            ]
        )
        self._open = Group()
        await self._recovery.treat(fault, failed)
        await self._recovery.read_truth(fault)
        self._owned.is_stale = False
        await self._tell_quiet()

    def _end(self, partition: Partition) -> None:
        self._owned.end(partition)
        self._intake.drop(partition)

    async def _tell_quiet(self) -> None:
        async with self._quiet:
            self._quiet.notify_all()

    def _is_busy(self, partition: Partition) -> bool:
        return partition in self.lines and (
            self._is_sealing
            or self.lines[partition].draft is not None
            or partition in self._open.partitions() | self._committed_group.partitions()
        )
