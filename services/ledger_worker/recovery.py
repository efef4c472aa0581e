"""After a fault of the store: whose error it is, what follows from it, and the truth read anew (DESIGN §4.2)."""

from collections.abc import Awaitable, Callable

import structlog

from services.ledger_worker import metrics
from services.ledger_worker.folding import Folding
from services.ledger_worker.group import Group
from services.ledger_worker.loading import Loading
from services.ledger_worker.owned import Owned
from services.ledger_worker.ports import Clock, CommitUnknown, Fenced, Redo, RepeatFound, Store, StoreFault
from services.ledger_worker.suspects import Suspects
from shared.amqp import backoff_s
from shared.ids import Partition

log = structlog.get_logger()

Abandon = Callable[[Partition], Awaitable[None]]


class Recovery:
    """Works while nothing is decided and nothing is being committed."""

    def __init__(  # noqa: PLR0913 - wired once, every part named
        self,
        *,
        owner: str,
        store: Store,
        clock: Clock,
        owned: Owned,
        loading: Loading,
        folding: Folding,
        suspects: Suspects,
        lease_ttl_s: float,
        abandon: Abandon,
    ) -> None:
        self._owner = owner
        self._store = store
        self._clock = clock
        self._owned = owned
        self._loading = loading
        self._folding = folding
        self._suspects = suspects
        self._lease_ttl_s = lease_ttl_s
        self._abandon = abandon
        self._attempt = 0

    def ease(self) -> None:
        """A group was committed: the next fault is a first one."""
        self._attempt = 0

    async def treat(self, fault: StoreFault, failed: Group) -> None:
        """Draws the consequence. `failed` is the group whose commit ended in `fault`; empty when something else did."""
        if isinstance(fault, Redo):
            return
        log.warning(
            "commit.failed",
            fault=type(fault).__name__,
            detail=str(fault)[:500],
            commands=failed.commands,
            attempt=self._attempt,
        )
        metrics.COMMIT_FAULTS.labels(type(fault).__name__).inc()
        if isinstance(fault, RepeatFound):
            self._loading.look_up()
        elif isinstance(fault, Fenced):
            metrics.FENCED.inc()
            await self._abandon_what_is_lost()
        elif self._suspects.is_commands_fault(fault) and (failed.sealed or failed.deliveries):
            self._narrow(fault, failed)
        elif not isinstance(fault, CommitUnknown):
            await self._pause()

    async def read_truth(self, fault: StoreFault) -> None:
        """Reads every line anew, however long the database is away."""
        while True:
            try:
                if isinstance(fault, CommitUnknown) and self._owned.leases:
                    await self._raise_epochs()
                await self._read()
            except StoreFault as again:
                log.warning("store.unavailable", fault=str(again), attempt=self._attempt)
                await self._pause()
            else:
                return

    def _narrow(self, fault: StoreFault, failed: Group) -> None:
        commands = [command for opened in failed.deliveries for _, command in opened.commands]
        if failed.folded:
            # A row of transit may be at fault as well: the rows go first, alone.
            self._folding.suspect(failed.folded, alone=not commands)
        elif commands:
            self._suspects.narrow(fault, commands)

    async def _abandon_what_is_lost(self) -> None:
        try:
            held = await self._store.renew(self._owner, list(self._owned.leases.values()), self._lease_ttl_s)
        except StoreFault:
            return
        for partition in [partition for partition in self._owned.leases if partition not in held]:
            await self._abandon(partition)

    async def _raise_epochs(self) -> None:
        """Waits for the old backend and fences it: from here on the journal says what became of the commit."""
        raised = await self._store.raise_epochs(self._owner, list(self._owned.leases.values()))
        by_partition = {lease.partition: lease for lease in raised}
        for partition in [partition for partition in self._owned.leases if partition not in by_partition]:
            await self._abandon(partition)
        self._owned.leases.update({key: lease for key, lease in by_partition.items() if key in self._owned.leases})
        metrics.UNKNOWN_RESOLVED.inc()

    async def _read(self) -> None:
        self._owned.world.forget_decided()
        seen = dict(self._owned.lines)
        if seen:
            # Whatever was in the failed groups may be in the journal: look before deciding.
            self._loading.look_up()
        heads = await self._store.heads(list(seen))
        await self._loading.assets()
        self._owned.begin_again(heads, seen)
        self._folding.due = True

    async def _pause(self) -> None:
        await self._clock.sleep(backoff_s(self._attempt))
        self._attempt += 1
