"""Folding in what waits in transit: of other workers, of our own lines from before we had both, and returns."""

from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from services.ledger_worker import metrics
from services.ledger_worker.core.line import InvariantBroken, Line
from services.ledger_worker.core.transit import fold_row, fold_to_suspense, landing_accounts, transit_accounts
from services.ledger_worker.group import Group
from services.ledger_worker.loading import Loading
from services.ledger_worker.owned import Owned
from services.ledger_worker.ports import Redo, Store, TransitRow
from shared.ids import Partition, system_account
from shared.transit_rows import Credit, TransitRowError, decode_credits

log = structlog.get_logger()

ROWS_PER_COMMIT_MAX: Final = 500
CREDITS_PER_COMMIT_MAX: Final = 4_000


class Folding:
    """Rows are read from the journal when they are `due`, and folded into the open drafts in order."""

    def __init__(self, store: Store, loading: Loading, owned: Owned) -> None:
        self._store = store
        self._loading = loading
        self._lines: Mapping[Partition, Line] = owned.lines
        self._rows_max = ROWS_PER_COMMIT_MAX
        # Rows that made the worker raise, or that the database refused to see landed.
        self._aside: set[TransitRow] = set()
        self.due = False
        self.is_suspect = False

    def suspect(self, rows: Sequence[TransitRow], *, alone: bool) -> None:
        """The commit that folded these rows was refused. Until one goes well, rows are folded without commands.

        `alone`: no command was with them, so one of the rows is at fault.
        """
        self.is_suspect = True
        if alone and len(rows) == 1:
            self._aside.add(rows[0])
        elif alone:
            self._rows_max = max(1, len(rows) // 4)

    def ease(self) -> None:
        """A group was committed."""
        self._rows_max = min(ROWS_PER_COMMIT_MAX, self._rows_max * 2)
        self.is_suspect = self._rows_max < ROWS_PER_COMMIT_MAX

    async def fold(self, group: Group) -> None:
        """Folds into the open drafts.

        No commit may be in flight: every row of ours before this group is in the journal.
        """
        if self.due and self._lines:
            await self._fold_waiting(group)
        if not group.folded:
            self.is_suspect = False
        for line in list(self._lines.values()):
            await self._loading.accounts(line, transit_accounts(line))

    async def _fold_waiting(self, group: Group) -> None:
        self.due = False
        # Lines being given back fold nothing more: their next owner will.
        lines = [line for line in self._lines.values() if not line.is_draining]
        cursors = [
            (line.partition, Partition(source), line.cursors.get(Partition(source), 0))
            for line in lines
            for source in range(line.world.partitions)
            if source != line.partition
        ]
        rows = await self._store.pending_transit(cursors, self._rows_max)
        credits = 0
        for folded, row in enumerate(rows):
            if credits >= CREDITS_PER_COMMIT_MAX:
                rows = rows[:folded]
                self.due = True
                break
            credits += await self._fold_row(group, row)
        if len(rows) >= self._rows_max:
            self.due = True

    async def _fold_row(self, group: Group, row: TransitRow) -> int:
        line = self._lines.get(row.destination)
        if line is None:
            return 0
        group.folded.append(row)
        try:
            if row in self._aside:
                raise TransitRowError("it was set aside")
            credits = decode_credits(row.credits)
            await self._loading.accounts(line, landing_accounts(line, credits))
            self._check(line, credits)
        except (TransitRowError, InvariantBroken) as error:
            log.exception(
                "transit.unreadable", source=row.source, batch=row.batch, destination=row.destination, error=repr(error)
            )
            totals = await self._store.transit_totals(row)
            await self._loading.accounts(
                line, [system_account("suspense", asset, line.partition) for asset, _ in totals]
            )
            fold_to_suspense(line, row.source, row.batch, totals)
            metrics.PARKED.labels("transit").inc()
            return 1
        try:
            landed = fold_row(line, row.source, row.batch, credits)
        except InvariantBroken:
            raise
        except Exception as error:
            # The line may be half changed: forget it, and fold again with this row set aside.
            self._aside.add(row)
            log.exception("transit.poisoned", source=row.source, batch=row.batch, destination=row.destination)
            raise Redo("a transit row made the core raise") from error
        group.landed += [(line.partition, each) for each in landed]
        metrics.RETURNED.inc(sum(each.returned for each in landed))
        metrics.TRANSIT_LEGS.labels("journal").inc(len(credits))
        return len(credits)

    def _check(self, line: Line, credits: Sequence[Credit]) -> None:
        for credit in credits:
            account = line.account(credit.account)
            if account is None:
                raise InvariantBroken(f"credit to {credit.account}, which does not exist in partition {line.partition}")
            if account.asset != credit.asset or credit.amount <= 0:
                raise InvariantBroken(f"credit of {credit.amount} {credit.asset} to {credit.account}")
