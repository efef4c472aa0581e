"""The teller: takes what came in, decides it in memory, commits it in groups, then answers and acknowledges.

While one group is being committed the next is decided on top of it. No answer leaves before every batch that it was decided on
is committed. A failed commit drops decisions and keeps deliveries: they are decided again, in the same order.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import structlog

from services.ledger_worker import metrics
from services.ledger_worker.core.decide import Asking, decide, poisoned
from services.ledger_worker.core.line import InvariantBroken, Line, World
from services.ledger_worker.core.transit import write_transit_entries
from services.ledger_worker.folding import Folding
from services.ledger_worker.group import Group
from services.ledger_worker.intake import EnvelopeReader, EnvelopeRefused, Inbox, Opened
from services.ledger_worker.loading import Loading
from services.ledger_worker.ports import (
    Bus,
    Clock,
    CommitUnknown,
    Fenced,
    Inbound,
    Lease,
    RepeatFound,
    RowRefused,
    Sealed,
    Store,
    StoreFault,
)
from shared.amqp import BusError, backoff_s
from shared.faults import FaultPoint, fault_point
from shared.ids import Partition
from shared.messages import Command

log = structlog.get_logger()

RECENT_MAX: Final = 200_000
FACTS_MAX: Final = 500_000
# For this long after a repeat was found by its key, ids are looked up before they are decided.
LOOKUP_AFTER_REPEAT_S: Final = 5.0


class Redo(StoreFault):
    """What was decided and not committed must be decided again; the database is not at fault."""


class Teller:
    """One per worker; owns the lines that `LeaseKeeper` hands it."""

    def __init__(
        self, *, owner: str, store: Store, bus: Bus, clock: Clock, world: World, secret: str, commands_max: int, accounts_max: int,
        lease_ttl_s: float,
    ) -> None:
        self.lines: dict[Partition, Line] = {}
        self._leases: dict[Partition, Lease] = {}
        self._owner = owner
        self._store = store
        self._bus = bus
        self._clock = clock
        self._world = world
        self._commands_max = commands_max
        self._accounts_max = accounts_max
        self._limit = commands_max
        self._lease_ttl_s = lease_ttl_s
        self._reader = EnvelopeReader(world, secret)
        self._inbox = Inbox()
        self._loading = Loading(store, world, self.lines)
        self._draining: set[Partition] = set()
        self.folding = Folding(store, self._loading, self.lines, self._draining)
        self._wake = asyncio.Event()
        self._quiet = asyncio.Condition()
        self._open = Group()
        self._committing: asyncio.Task[dict[Partition, int]] | None = None
        self._committed_group = Group()
        self._poison: dict[str, str] = {}
        self._stale = False
        self._attempt = 0

    # What the bus and the lease keeper call.

    def deliver(self, inbound: Inbound) -> None:
        """Takes a delivery in; never waits. One that cannot be read is parked in its turn."""
        now = self._clock.monotonic_s()
        if inbound.redelivered:
            metrics.REDELIVERED.inc()
        try:
            self._inbox.add(Opened(inbound, self._reader.read(inbound), now))
        except EnvelopeRefused as refused:
            self._inbox.add(Opened(inbound, (), now, parked=str(refused)))
        self._wake.set()

    def nudge(self, _: Partition) -> None:
        """Transit rows of other workers may wait."""
        self.folding.due = True
        self._wake.set()

    def channel_lost(self, partition: Partition) -> None:
        """What waits came over a channel that is gone: the broker will deliver it again."""
        self._inbox.drop(partition)

    async def add(self, lease: Lease) -> None:
        """Begins a line under a new lease, with nothing in memory. Raises StoreUnavailable."""
        head = (await self._store.heads([lease.partition]))[lease.partition]
        self._leases[lease.partition] = lease
        self.lines[lease.partition] = Line(self._world, lease.partition, head.batch, dict(head.cursors), committed=head.batch)
        self.folding.forget(lease.partition)
        await self._bus.open(lease.partition)
        self._wake.set()

    async def give_back(self, partition: Partition) -> None:
        """Finishes and acknowledges what was decided for the line, then closes it: the rest goes to the next owner."""
        self._draining.add(partition)
        self._inbox.drop(partition)
        self._wake.set()
        async with self._quiet:
            await self._quiet.wait_for(lambda: not self._is_busy(partition))
        await self._bus.close(partition)
        self._inbox.drop(partition)
        self._forget(partition)

    async def abandon(self, partition: Partition) -> None:
        """Ends a line at once: its lease is lost. The fence keeps out what is still on its way to the database."""
        self._forget(partition)
        self._stale = True  # the open group may hold decisions of this line
        self._wake.set()
        await self._bus.close(partition)
        self._inbox.drop(partition)

    def leases(self) -> list[Lease]:
        """What this worker holds."""
        return list(self._leases.values())

    def oldest_undecided_s(self) -> float:
        """Age in seconds of the oldest delivery that is not committed."""
        ages = [self._inbox.oldest_s(), *(group.began_s for group in (self._open, self._committed_group) if group.deliveries)]
        known = [age for age in ages if age is not None]
        return self._clock.monotonic_s() - min(known) if known else 0.0

    # The loop.

    async def run(self) -> None:
        """Serves until cancelled. A fault of the store is retried; a broken invariant ends the process."""
        await self._loading.assets()
        while True:
            await self._wait_for_work()
            try:
                await self._absorb()
                if self._committing is None or self._committing.done():
                    finished = await self._finish()
                    await self._seal()
                    await self._answer(*finished)
            except StoreFault as fault:
                await self._recover(fault)

    async def _wait_for_work(self) -> None:
        has_room = self._open.commands < self._limit
        folds = self._committing is None and self.folding.due and bool(self.lines)
        if (has_room and self._inbox.has_work(self._takeable())) or self._stale or folds:
            return
        self._wake.clear()
        waking = asyncio.ensure_future(self._wake.wait())
        waited: set[asyncio.Future[Any]] = {waking} if self._committing is None else {self._committing}
        if has_room:
            waited.add(waking)
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()

    def _takeable(self) -> list[Partition]:
        return [partition for partition in self.lines if partition not in self._draining]

    async def _absorb(self) -> None:
        """Decides what has come in, on top of what was decided before, into the open group."""
        if self._stale:
            raise Redo("a line was lost with decisions open")
        room = self._limit - self._open.commands
        if room <= 0:
            return
        taken = self._inbox.take(self._takeable(), room, split=self._limit < self._commands_max)
        if not taken:
            return
        if not self._open.deliveries:
            self._open.began_s = taken[0].since_s
        # They are the open group's from here on, so that a fault while loading loses none.
        self._open.deliveries.extend(taken)
        await self._loading.for_commands(taken, lookup=self._clock.monotonic_s() < self._loading.lookup_until_s)
        if self._stale:
            raise Redo("a line was lost while loading")
        for opened in taken:
            self._decide(opened)

    def _decide(self, opened: Opened) -> None:
        line = self.lines.get(opened.inbound.partition)
        if line is None:
            return
        asking = Asking(opened.inbound.reply_to, self._clock.now_us())
        for command in opened.commands:
            if command.id in self._poison and command.id not in self._world.recent:
                decision = poisoned(line, command)
                self._open.poisoned.append((opened, self._poison[command.id]))
            else:
                try:
                    fault_point(FaultPoint.WORKER_IN_CORE)
                    decision = decide(line, command, asking)
                except InvariantBroken:
                    raise
                except Exception as error:
                    # The accounts may be half changed: forget them all, and decide again with this command set aside.
                    self._poison[command.id] = f"the core raised {error!r}"
                    log.error("command.poisoned", operation_id=command.id, exc_info=error)
                    raise Redo("the core raised") from error
            self._open.decisions.append((opened.inbound.reply_to, line.partition, decision))

    async def _seal(self) -> None:
        """Folds what waits in transit, closes the drafts and starts the commit of the open group."""
        if self._stale:
            raise Redo("a line was lost with decisions open")
        group = self._open
        await self.folding.fold(group)
        if self._stale:
            raise Redo("a line was lost while folding")
        for line in self.lines.values():
            write_transit_entries(line)
        for line in self.lines.values():
            draft = line.close_draft()
            if draft is not None:
                group.rows[line.partition] = draft.decided
                group.sealed.append(Sealed(
                    line.partition, draft.batch, self._leases[line.partition].epoch, draft.lines(), draft.assets,
                    draft.account_changes, line.cursors_text(), draft.content_hash(),
                ))
        if not group.deliveries and not group.sealed:
            return
        self._open = Group()
        self._committed_group = group
        self._committing = asyncio.ensure_future(self._commit(group))

    async def _commit(self, group: Group) -> dict[Partition, int]:
        began = self._clock.monotonic_s()
        recorded = await self._store.commit(self._owner, group.sealed) if group.sealed else {}
        if group.sealed:
            metrics.COMMIT_SECONDS.observe(self._clock.monotonic_s() - began)
            metrics.BATCH_COMMANDS.observe(group.commands)
        return recorded

    async def _finish(self) -> tuple[Group, dict[Partition, int]]:
        """Takes the result of the commit that has ended. Raises its fault."""
        if self._committing is None:
            return Group(), {}
        recorded = await self._committing  # done: does not wait, but raises
        group, self._committing = self._committed_group, None
        self._committed_group = Group()
        self._attempt = 0
        self._limit = min(self._commands_max, self._limit * 2)
        for sealed in group.sealed:
            line = self.lines.get(sealed.partition)
            if line is not None:
                line.committed = max(line.committed, sealed.batch)
        return group, recorded

    async def _answer(self, group: Group, recorded: dict[Partition, int]) -> None:
        """Tells what is in the journal now: answers, then acknowledgements, then nudges and events."""
        if group.deliveries or group.sealed:
            await self._park(group)
            for reply_to, reply in group.replies(recorded, self._owner).items():
                await self._bus.reply(reply_to, reply)
            fault_point(FaultPoint.WORKER_AFTER_ANSWER)
            for last in _last_of_each_channel(group.deliveries):
                await self._bus.acknowledge(last)
            for source, destination in group.onward:
                if destination in self.lines:
                    self.folding.due = True
                else:
                    await self._bus.nudge(source, destination)
            for partition, event in group.events(recorded):
                self._bus.announce(partition, event)
            self._count(group)
            self._trim()
        async with self._quiet:
            self._quiet.notify_all()

    async def _park(self, group: Group) -> None:
        """Sets aside what could not be read or broke something, before its acknowledgement. Tries until it is confirmed."""
        refused = [(opened, opened.parked) for opened in group.deliveries if opened.parked is not None]
        for opened, reason in [*refused, *group.poisoned]:
            attempt = 0
            while opened.inbound.partition in self.lines:
                try:
                    await self._bus.park(opened.inbound, reason)
                except BusError as fault:
                    log.warning("parking.failed", fault=repr(fault), attempt=attempt)
                    await self._clock.sleep(backoff_s(attempt))
                    attempt += 1
                    continue
                log.error("message.parked", partition=opened.inbound.partition, reason=reason)
                metrics.PARKED.labels("unreadable" if opened.parked else "poison").inc()
                break

    async def _recover(self, fault: StoreFault) -> None:
        """Drops every decision that is not committed and puts its deliveries back; then reads the truth."""
        if self._committing is not None and not self._committing.done():
            await asyncio.wait({self._committing})
        failed: list[Opened] = []
        if self._committing is not None:
            try:
                finished = await self._finish()
            except StoreFault as commit_fault:
                fault = commit_fault
                failed = self._committed_group.deliveries
                self._committing, self._committed_group = None, Group()
            else:
                await self._answer(*finished)
        self._inbox.put_back([
            opened for opened in [*failed, *self._open.deliveries] if opened.inbound.partition in self.lines
        ])
        size, self._open = self._open.commands + sum(len(opened.commands) for opened in failed), Group()
        await self._treat(fault, size, failed)
        self._stale = True
        while self._stale:
            try:
                await self._read_truth(raise_epochs=isinstance(fault, CommitUnknown))
                self._stale = False
            except StoreFault as again:
                log.warning("store.unavailable", fault=str(again), attempt=self._attempt)
                await self._pause()
        async with self._quiet:
            self._quiet.notify_all()

    async def _treat(self, fault: StoreFault, size: int, failed: Sequence[Opened]) -> None:
        if isinstance(fault, Redo):
            return
        log.warning("commit.failed", fault=type(fault).__name__, detail=str(fault)[:500], commands=size, attempt=self._attempt)
        metrics.COMMIT_FAULTS.labels(type(fault).__name__).inc()
        if isinstance(fault, RepeatFound):
            self._loading.lookup_until_s = self._clock.monotonic_s() + LOOKUP_AFTER_REPEAT_S
        elif isinstance(fault, RowRefused) and failed:
            self._narrow(fault, failed)
        elif isinstance(fault, Fenced):
            metrics.FENCED.inc()
            held = await self._held_or_none()
            for partition in [partition for partition in self._leases if partition not in held]:
                await self.abandon(partition)
        elif not isinstance(fault, CommitUnknown):
            await self._pause()

    def _narrow(self, fault: RowRefused, failed: Sequence[Opened]) -> None:
        """Halves the batch until the command at fault is alone in it."""
        commands: list[Command] = [command for opened in failed for command in opened.commands]
        if len(commands) == 1:
            self._poison[commands[0].id] = f"the database refused it: {fault}"
            self._limit = self._commands_max
        else:
            self._limit = max(1, len(commands) // 4)

    async def _held_or_none(self) -> set[Partition]:
        try:
            return await self._store.renew(self._owner, self.leases(), self._lease_ttl_s)
        except StoreFault:
            return set(self._leases)

    async def _pause(self) -> None:
        await self._clock.sleep(backoff_s(self._attempt))
        self._attempt += 1

    async def _read_truth(self, *, raise_epochs: bool) -> None:
        """Reads every line anew; after a commit of unknown end, only once the old backend is fenced out."""
        if raise_epochs and self._leases:
            raised = {lease.partition: lease for lease in await self._store.raise_epochs(self._owner, self.leases())}
            for partition in [partition for partition in self._leases if partition not in raised]:
                await self.abandon(partition)
            self._leases.update(raised)
            metrics.UNKNOWN_RESOLVED.inc()
        self._world.recent.clear()
        # Whatever was in the failed groups may be in the journal: look before deciding.
        self._loading.lookup_until_s = self._clock.monotonic_s() + LOOKUP_AFTER_REPEAT_S
        heads = await self._store.heads(list(self.lines))
        await self._loading.assets()
        for partition, head in heads.items():
            if partition in self.lines:
                self.lines[partition] = Line(self._world, partition, head.batch, dict(head.cursors), committed=head.batch)
                self.folding.forget(partition)

    def _forget(self, partition: Partition) -> None:
        self.lines.pop(partition, None)
        self._leases.pop(partition, None)
        self._draining.discard(partition)

    def _is_busy(self, partition: Partition) -> bool:
        return partition in self.lines and (
            partition in self._open.partitions() or partition in self._committed_group.partitions()
            or self.lines[partition].draft is not None
        )

    def _count(self, group: Group) -> None:
        for _, _, decision in group.decisions:
            if decision.replayed:
                metrics.DUPLICATES.labels("repeat").inc()
            else:
                metrics.COMMANDS.labels(decision.code or "posted").inc()
                if decision.code is not None:
                    log.info("command.rejected", operation_id=decision.id, code=decision.code)
        log.debug("batch.committed", commands=group.commands, batches=len(group.sealed))

    def _trim(self) -> None:
        self._world.trim(RECENT_MAX, FACTS_MAX)
        for line in self.lines.values():
            line.trim(self._accounts_max)


def _last_of_each_channel(deliveries: Sequence[Opened]) -> list[Inbound]:
    last: dict[tuple[Partition, int], Inbound] = {}
    for opened in deliveries:
        if opened.is_last_part:
            last[opened.inbound.partition, id(opened.inbound.channel)] = opened.inbound
    return list(last.values())
