"""Reads transit rows that other partitions have sent from the journal, and takes their credits in."""

import math
from collections.abc import Sequence
from typing import Final

import structlog

from services.ledger_worker import metrics
from services.ledger_worker.core.state import PartitionState
from services.ledger_worker.core.transit import (
    landing_accounts,
    take_in,
    take_in_to_suspense,
    transit_accounts,
)
from services.ledger_worker.engine.apply import Prefetch
from services.ledger_worker.engine.group import CommitGroup
from services.ledger_worker.engine.intake import Inbox
from services.ledger_worker.engine.ownership import OwnedPartitions
from services.ledger_worker.ports import Clock, DecideAgain, PendingTransit, Store, StoreUnavailable, TransitRow
from shared.domain.ids import Partition, system_account
from shared.domain.lifecycle import InvariantBroken
from shared.journal.transit import TransitCredit, TransitRowError, decode_credits

log = structlog.get_logger()

ROWS_PER_COMMIT_MAX: Final = 500
# The size of the rows' credits in bytes, of which each has 100 to 200. A single row may be larger.
SIZE_PER_COMMIT_MAX: Final = 600_000
# How long rows wait for commands with which to share a commit: so many seconds after the last commit for each command
# and credit in it but the first, since the more it held, the sooner others follow. With one client none waits.
WAIT_S_EACH: Final = 0.005
WAIT_S_MAX: Final = 0.04
LAST_BATCH_UNKNOWN: Final = 2**63 - 1


class TransitIn:
    """Reads rows after a nudge, and takes them into the open batches just before these are sealed.

    A commit costs the same for one credit as for many commands, so under load rows wait a little for commands.

    All rows that are read are taken in with the next commit, so none is read twice, however long the backlog is.
    While rows are suspect in the search for what made a commit fail, these alone are taken in, without commands.
    """

    def __init__(self, store: Store, inbox: Inbox, owned: OwnedPartitions, prefetch: Prefetch, clock: Clock) -> None:
        self._store = store
        self._inbox = inbox
        self._owned = owned
        self._prefetch = prefetch
        self._clock = clock
        self._alone_from_s = -math.inf  # monotonic
        self._is_more = False  # as far as the last reading tells
        self._suspected: Sequence[TransitRow] = ()
        self._suspected_max = ROWS_PER_COMMIT_MAX
        # Shrinks when a reading fails, which may be because it takes too long, and grows again with each that succeeds.
        self._size_max = SIZE_PER_COMMIT_MAX
        # Rows that made the core raise or the database refuse the commit: their totals go to suspense.
        self._set_aside: set[TransitRow] = set()

    @property
    def has_suspected(self) -> bool:
        """Whether rows are to be committed alone before anything else is decided."""
        return bool(self._suspected)

    def due_in_s(self, group: CommitGroup) -> float | None:
        """In how many seconds rows that wait are to be taken in: 0 with commands in the group; None if none wait."""
        if not self._owned.states or not (self._inbox.is_nudged or self._suspected):
            return None
        if group.deliveries or self._suspected or self._is_more:
            return 0
        return max(0, self._alone_from_s - self._clock.monotonic_s())

    def committed(self, group: CommitGroup) -> None:
        """Notes when a group was committed and how much it held."""
        others = max(0, len(group.decisions) + len(group.landed) - 1)
        self._alone_from_s = self._clock.monotonic_s() + min(WAIT_S_MAX, WAIT_S_EACH * others)

    def suspect(self, rows: Sequence[TransitRow], rows_max: int) -> None:
        """One of these rows may have made a commit fail: they are committed alone, at most `rows_max` at a time."""
        self._suspected, self._suspected_max = rows, rows_max

    def set_aside(self, row: TransitRow) -> None:
        """The database refuses what this row leads to: its total goes to suspense."""
        self._set_aside.add(row)

    async def take_in(self, group: CommitGroup) -> None:
        """Takes waiting rows into the open batches, and loads the transit accounts that these batches will change.

        No commit may be in flight: every row that this worker wrote before must be in the journal.
        """
        if self._suspected:
            for row in self._next_suspected():
                await self._take_in_row(group, row)
        elif self.due_in_s(group) == 0 and not group.is_suspect:
            await self._take_in_waiting(group)
        for partition in list(self._owned.states.values()):
            if any(account not in partition.accounts for account in transit_accounts(partition)):
                await self._prefetch.accounts(partition, transit_accounts(partition))
                # Once these are in memory, it is known whether others are to be netted with them.
                await self._prefetch.accounts(partition, transit_accounts(partition))

    async def _take_in_waiting(self, group: CommitGroup) -> None:
        cursors = self._cursors_behind()
        self._is_more = False
        if not cursors:
            return
        pending = await self._read(cursors)
        self._is_more = pending.is_more
        for row in pending.rows:
            await self._take_in_row(group, row)
        if pending.is_more:
            for destination, source, _ in cursors:
                self._inbox.nudge(source, destination, LAST_BATCH_UNKNOWN)

    def _cursors_behind(self) -> list[tuple[Partition, Partition, int]]:
        """The cursors (destination, source, batch) past which a row waits, as far as nudges say."""
        nudges, states = self._inbox.take_nudges(), self._owned.states
        if nudges is None:
            sources = [Partition(source) for source in range(self._owned.ledger.partitions)]
            pairs = [(source, partition) for partition in states for source in sources if source != partition]
        else:
            pairs = list(nudges)
        return [
            (destination, source, states[destination].cursors.get(source, 0))
            for source, destination in pairs
            # A draining partition takes no more rows in: its next owner will.
            if destination in states
            and not states[destination].is_draining
            and (nudges is None or nudges[source, destination] > states[destination].cursors.get(source, 0))
        ]

    async def _read(self, cursors: Sequence[tuple[Partition, Partition, int]]) -> PendingTransit:
        rows_max = max(1, ROWS_PER_COMMIT_MAX * self._size_max // SIZE_PER_COMMIT_MAX)
        try:
            pending = await self._store.pending_transit(cursors, rows_max, self._size_max)
        except StoreUnavailable:
            self._size_max = max(1, self._size_max // 4)
            raise
        self._size_max = min(SIZE_PER_COMMIT_MAX, self._size_max * 5 // 4 + 1)
        return pending

    def _next_suspected(self) -> Sequence[TransitRow]:
        """The next rows to try, but for those that were taken in after all or are no longer this worker's."""
        waiting: list[TransitRow] = []
        for row in self._suspected:
            partition = self._owned.states.get(row.destination)
            if partition is not None and not partition.is_draining and row.batch > partition.cursors.get(row.source, 0):
                waiting.append(row)
        self._suspected = waiting[self._suspected_max :]
        return waiting[: self._suspected_max]

    async def _take_in_row(self, group: CommitGroup, row: TransitRow) -> None:
        partition = self._owned.states.get(row.destination)
        if partition is None:
            return
        group.transit_rows.append(row)
        try:
            if row in self._set_aside:
                raise TransitRowError("it was set aside")
            credits = decode_credits(row.credits)
            await self._prefetch.know_assets({credit.asset for credit in credits})
            await self._prefetch.accounts(partition, landing_accounts(partition, credits))
            _check(partition, credits)
        except (TransitRowError, InvariantBroken) as error:
            await self._take_in_to_suspense(partition, row, error)
            return
        try:
            landed = take_in(partition, row.source, row.batch, credits)
        except InvariantBroken:
            raise
        except Exception as error:
            # The partition's state may be half changed: discard it, and decide again with this row set aside.
            self._set_aside.add(row)
            log.exception("transit.poisoned", source=row.source, batch=row.batch, destination=row.destination)
            raise DecideAgain("a transit row made the core raise") from error
        group.landed += [(partition.partition, each) for each in landed]
        metrics.RETURNED.inc(sum(each.is_returned for each in landed))
        metrics.TRANSIT_LEGS.inc(len(credits))

    async def _take_in_to_suspense(self, partition: PartitionState, row: TransitRow, error: Exception) -> None:
        log.error("transit.unreadable", source=row.source, batch=row.batch, destination=row.destination, exc_info=error)
        totals = await self._store.transit_totals(row)
        await self._prefetch.know_assets(asset for asset, _ in totals)
        await self._prefetch.accounts(
            partition, [system_account("suspense", asset, partition.partition) for asset, _ in totals]
        )
        take_in_to_suspense(partition, row.source, row.batch, totals)
        metrics.DEAD_LETTERS.labels("transit").inc()


def _check(partition: PartitionState, credits: Sequence[TransitCredit]) -> None:
    for credit in credits:
        account = partition.account(credit.account)
        if account is None:
            raise InvariantBroken(
                f"credit to {credit.account}, which does not exist in partition {partition.partition}"
            )
        if account.asset != credit.asset or credit.amount <= 0:
            raise InvariantBroken(f"credit of {credit.amount} {credit.asset} to {credit.account}")
