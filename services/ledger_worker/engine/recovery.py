"""Recovery from faults of the store: finds out whose fault it is, reacts to it, and reads the journal again."""

from collections.abc import Iterable, Sequence
from typing import Final

import structlog

from services.ledger_worker import metrics
from services.ledger_worker.engine.apply import Prefetch
from services.ledger_worker.engine.group import CommitGroup
from services.ledger_worker.engine.intake import Inbox
from services.ledger_worker.engine.ownership import OwnedPartitions
from services.ledger_worker.engine.poison import PoisonIsolation
from services.ledger_worker.engine.transit_in import TransitIn
from services.ledger_worker.ports import (
    Clock,
    CommitUnknown,
    DecideAgain,
    Fenced,
    Lease,
    RepeatFound,
    RowRefused,
    StaleRead,
    Store,
    StoreFault,
    TransitRow,
)
from shared.messages import Command
from shared.runtime.retry import backoff_s

log = structlog.get_logger()

# If StaleRead persists after this many fresh reads of the journal, a command asks for a key that is taken.
STALE_READS_MAX: Final = 3
# Into how many parts a group that was refused is divided.
SEARCH_PARTS: Final = 4


class Recovery:
    """Runs only while no command is being decided and no commit is in flight.

    `is_active`: something has failed since the last commit, or a command is accused and its rejection is not committed.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        inbox: Inbox,
        owned: OwnedPartitions,
        prefetch: Prefetch,
        transit_in: TransitIn,
        poison: PoisonIsolation,
        *,
        lease_ttl_s: float,
    ) -> None:
        self.is_active = False
        self._store = store
        self._clock = clock
        self._inbox = inbox
        self._owned = owned
        self._prefetch = prefetch
        self._transit_in = transit_in
        self._poison = poison
        self._lease_ttl_s = lease_ttl_s
        self._attempt = 0
        self._stale_reads = 0

    def committed(self, decided: Iterable[str]) -> None:
        """Counts from zero again, since a group that decides these commands was committed."""
        self._attempt = self._stale_reads = 0
        self._poison.clear(decided)
        self.is_active = self._poison.is_active

    async def treat(self, fault: StoreFault, failed: CommitGroup) -> list[Lease]:
        """Reacts to a fault according to its type. Returns the leases that are lost to another worker.

        `failed`: the group whose commit raised the fault; empty when something else raised it. Its deliveries were put
        back into the inbox.
        """
        self.is_active = True
        if isinstance(fault, DecideAgain):
            return []
        log.warning(
            "commit.failed",
            fault=type(fault).__name__,
            detail=str(fault)[:500],
            commands=len(failed.decisions),
            attempt=self._attempt,
        )
        metrics.COMMIT_FAULTS.labels(type(fault).__name__).inc()
        lost: list[Lease] = []
        if isinstance(fault, Fenced):
            metrics.FENCED.inc()
            lost = await self._lost()
        if isinstance(fault, StaleRead | RowRefused) and (failed.transit_rows or failed.commands()):
            self._search(fault, failed)
        elif lost or (isinstance(fault, CommitUnknown | RepeatFound) and not self._attempt):
            self._attempt += 1  # something has changed, so the next try may succeed at once
        else:
            await self._pause()
        return lost

    async def read_journal(self, fault: StoreFault) -> list[Lease]:
        """Reads again where each partition's journal ends, and retries until the database answers.

        After CommitUnknown it raises the epochs first. Returns the leases that are lost to another worker.
        """
        while True:
            try:
                lost: list[Lease] = []
                if isinstance(fault, CommitUnknown) and self._owned.leases:
                    lost = await self._raise_epochs()
                await self._read()
            except StoreFault as again:
                log.warning("store.unavailable", fault=str(again), attempt=self._attempt)
                await self._pause()
            else:
                return lost

    def _search(self, fault: StoreFault, failed: CommitGroup) -> None:
        """Has what was refused tried again before and apart from everything else, in parts, until one stands alone.

        When a part fails, it alone is suspect from then on; parts that were not tried yet go back among the rest. What
        is suspect gets smaller with each failure, so the search ends whatever comes in meanwhile. Rows and commands are
        tried apart, rows first. A stale read may be nobody's fault: the same is tried again before it is divided.
        """
        rows, commands = failed.transit_rows, failed.commands()
        self._stale_reads += isinstance(fault, StaleRead)
        is_stale = isinstance(fault, StaleRead) and self._stale_reads <= STALE_READS_MAX
        if not is_stale:
            self._stale_reads = 0  # a part of it, too, is blamed only after so many
        if len(rows) + len(commands) == 1 and not is_stale:
            self._blame(fault, rows, commands)
            return
        parts = 1 if is_stale or (rows and commands) else SEARCH_PARTS
        self._transit_in.suspect(rows, max(1, len(rows) // parts))
        self._inbox.suspect(failed.deliveries if commands else (), max(1, len(commands) // parts))

    def _blame(self, fault: StoreFault, rows: Sequence[TransitRow], commands: Sequence[Command]) -> None:
        self._transit_in.suspect((), 1)
        self._inbox.suspect((), 1)
        for row in rows:
            self._transit_in.set_aside(row)
        for command in commands:
            self._poison.accuse(command, f"the database refused it: {fault}")

    async def _lost(self) -> list[Lease]:
        leases = list(self._owned.leases.values())
        try:
            held = await self._store.renew(leases, self._lease_ttl_s)
        except StoreFault:
            return []
        return [lease for lease in leases if lease.partition not in held]

    async def _raise_epochs(self) -> list[Lease]:
        """Waits for the old backend and fences it off, so that the journal then shows whether it committed."""
        leases = list(self._owned.leases.values())
        raised = await self._store.raise_epochs(leases)
        for lease in raised:
            # If the partition was taken again meanwhile, the higher of the two epochs is the valid one.
            held = self._owned.leases.get(lease.partition)
            if held is not None and held.epoch < lease.epoch:
                self._owned.leases[lease.partition] = lease
        metrics.UNKNOWN_RESOLVED.inc()
        kept = {lease.partition for lease in raised}
        return [lease for lease in leases if lease.partition not in kept]

    async def _read(self) -> None:
        self._owned.ledger.recent.clear()  # some of it comes from discarded decisions
        seen = dict(self._owned.states)
        if seen:
            # A repeat may have caused the fault, and commands of the failed group may be committed after all.
            self._prefetch.look_up_ids()
        heads = await self._store.heads(list(seen))
        await self._prefetch.assets()
        self._owned.restart(heads, seen)
        self._inbox.nudge_all()

    async def _pause(self) -> None:
        self.is_active = True
        await self._clock.sleep(backoff_s(self._attempt))
        self._attempt += 1
