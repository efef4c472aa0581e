"""ports.Store in memory: one Journal shared by many workers' stores, with seams for every fault that a database has."""

import asyncio
from collections import deque
from collections.abc import Sequence

from services.ledger_worker.core.accounts import LEDGER, Account, Hold, Status
from services.ledger_worker.core.batch import SealedBatch
from services.ledger_worker.core.outcomes import KnownOutcome
from services.ledger_worker.core.state import read_cursors
from services.ledger_worker.ports import (
    CommitUnknown,
    JournalHead,
    Lease,
    PendingTransit,
    StoreUnavailable,
    TransitRow,
)
from shared.domain.ids import AccountId, AssetCode, CommandId, HoldId, Partition, Principal, transit_account
from shared.domain.rejections import Rejection
from tests.twins.faults import Delay, Fault, Faults
from tests.twins.journal import Backend, Journal
from tests.twins.leases import MemoryLeases
from tests.twins.transit import waiting_rows

LOCK_TIMEOUT_S = 2.0
LOCK_POLL_S = 0.001


class MemoryStore(MemoryLeases):
    """What one worker sees of the journal. `faults` is asked at each call; `script` goes before it."""

    def __init__(
        self,
        journal: Journal,
        owner: str,
        *,
        faults: Faults = lambda _: None,
        delay: Delay = lambda: 0.0,
    ) -> None:
        self.journal = journal
        self.owner = owner
        self.faults = faults
        self.delay = delay
        self.script: dict[str, deque[Fault]] = {}
        self.commits: list[Sequence[SealedBatch]] = []
        self.looked_up: list[str] = []
        self.is_dead = False
        self.gate = asyncio.Event()
        self.gate.set()
        journal.connected.add(owner)
        self._backend = Backend(owner)
        self._servers: set[asyncio.Task[None]] = set()

    async def assets(self) -> dict[AssetCode, int]:
        await self._call("assets")
        return {AssetCode(code): scale for code, (scale, _, _) in self.journal.assets.items()}

    async def accounts(self, wanted: Sequence[AccountId]) -> list[Account]:
        await self._call("accounts")
        return [self.account(account) for account in wanted if account in self.journal.accounts]

    def account(self, account: AccountId) -> Account:
        """The account after its last entry."""
        row = self.journal.accounts[account]
        last = self.journal.entries.get(account, [{}])[-1]
        owner = Principal(str(row["owner"]))
        return Account(
            account,
            AssetCode(str(row["asset"])),
            owner,
            Status(str(row["status"])),
            int(last.get("seq") or 0),
            int(last.get("balance_after") or 0),
            int(last.get("held_after") or 0),
            int(last.get("limit_after") or 0),
            is_system=owner == LEDGER,
        )

    async def metadata(self, wanted: Sequence[AccountId]) -> dict[AccountId, str | None]:
        await self._call("metadata")
        rows = self.journal.accounts
        return {account: rows[account]["metadata"] for account in wanted if account in rows}

    async def holds(self, wanted: Sequence[HoldId]) -> list[Hold]:
        await self._call("holds")
        found = [(hold, self.journal.holds[hold]) for hold in wanted if hold in self.journal.holds]
        return [
            Hold(
                hold,
                AccountId(str(row["account_id"])),
                AssetCode(str(row["asset"])),
                int(row["amount"] or 0),
                None if row["destination"] is None else AccountId(row["destination"]),
                CommandId(str(row["operation_id"])),
                self.journal.hold_ends.get(hold, {}).get("ended"),
            )
            for hold, row in found
        ]

    async def known(self, wanted: Sequence[str]) -> dict[str, KnownOutcome]:
        await self._call("known")
        self.looked_up.extend(wanted)
        found = {each: self.journal.operations[each] for each in wanted if each in self.journal.operations}
        return {
            each: KnownOutcome(str(row["fingerprint"])[2:], None if row["code"] is None else Rejection(row["code"]))
            for each, row in found.items()
        }

    async def heads(self, partitions: Sequence[Partition]) -> dict[Partition, JournalHead]:
        await self._call("heads")
        last = {partition: self.journal.batches[partition][-1:] for partition in partitions}
        return {
            partition: JournalHead(row[0].batch, read_cursors(row[0].cursors)) if row else JournalHead(0, {})
            for partition, row in last.items()
        }

    async def pending_transit(
        self,
        cursors: Sequence[tuple[Partition, Partition, int]],
        rows_max: int,
        size_max: int,
    ) -> PendingTransit:
        await self._call("pending_transit")
        return waiting_rows(self.journal.transit, cursors, -(-rows_max // len(cursors)), size_max)

    async def transit_totals(self, row: TransitRow) -> list[tuple[AssetCode, int]]:
        await self._call("transit_totals")
        found: list[tuple[AssetCode, int]] = []
        for code in sorted(self.journal.assets):
            account = transit_account(AssetCode(code), row.destination, "out", row.source)
            found.extend(
                (AssetCode(code), int(entry["delta"] or 0))
                for entry in self.journal.entries.get(account, [])
                if entry["batch"] == str(row.batch) and int(entry["delta"] or 0) > 0
            )
        return found

    async def commit(self, batches: Sequence[SealedBatch]) -> dict[Partition, int]:
        fault = self._fault("commit")
        await self._pass()
        self.commits.append(batches)
        match fault:
            case Fault.UNAVAILABLE:
                raise StoreUnavailable("injected")
            case Fault.LOST_BEFORE:
                self._reconnect()
                raise CommitUnknown("injected, nothing written")
            case Fault.LATE | Fault.STUCK:
                backend, self._backend = self._backend, Backend(self.owner)
                server = asyncio.get_running_loop().create_task(
                    self._go_on(batches, backend, is_stuck=fault is Fault.STUCK)
                )
                self._servers.add(server)
                server.add_done_callback(self._servers.discard)
                await self._pass()
                raise CommitUnknown("injected, the server goes on")
            case Fault.LOST_AFTER | None:
                recorded = await self._write(batches, self._backend)
        await self._pass()
        if fault is Fault.LOST_AFTER:
            self._reconnect()
            raise CommitUnknown("injected, written")
        return recorded

    async def _write(self, batches: Sequence[SealedBatch], backend: Backend) -> dict[Partition, int]:
        partitions = [batch.partition for batch in batches]
        await self._unlocked(partitions)
        with self.journal.locked(partitions, backend):
            self.journal.fence(self.owner, [Lease(batch.partition, batch.epoch) for batch in batches])
            await asyncio.sleep(self.delay())
            if backend.is_ended or self.is_dead:
                self._reconnect()
                raise CommitUnknown("the backend was ended")
            return self.journal.append(self.owner, batches)

    async def _go_on(self, batches: Sequence[SealedBatch], backend: Backend, *, is_stuck: bool) -> None:
        await asyncio.sleep(10 * self.delay())
        partitions = [batch.partition for batch in batches]
        try:
            await self._unlocked(partitions)
            with self.journal.locked(partitions, backend):
                self.journal.fence(self.owner, [Lease(batch.partition, batch.epoch) for batch in batches])
                while is_stuck and not backend.is_ended:
                    await asyncio.sleep(LOCK_POLL_S)
                if not backend.is_ended:
                    self.journal.append(self.owner, batches)
        except Exception:  # noqa: BLE001 - nobody hears what a server says to a lost connection
            return

    # Seams.

    def fail_next(self, method: str, *faults: Fault) -> None:
        """The next calls of `method` fail so, one after the other."""
        self.script.setdefault(method, deque()).extend(faults)

    def kill(self) -> None:
        """The worker's process has died: nothing more reaches the server, and what is under way is rolled back."""
        self.is_dead = True
        self.journal.connected.discard(self.owner)
        self._backend.is_ended = True

    def freeze(self) -> None:
        """The worker's process is stopped: no call of it goes on until `thaw`. The server's side does."""
        self.gate.clear()

    def thaw(self) -> None:
        """It goes on."""
        self.gate.set()

    def _reconnect(self) -> None:
        self._backend = Backend(self.owner)

    def _fault(self, method: str) -> Fault | None:
        scripted = self.script.get(method)
        return scripted.popleft() if scripted else self.faults(method)

    async def _pass(self) -> None:
        await asyncio.sleep(self.delay())
        await self.gate.wait()
        if self.is_dead:
            await asyncio.get_running_loop().create_future()  # the process is no more: it never hears an answer

    async def _call(self, method: str) -> None:
        fault = self._fault(method)
        await self._pass()
        if fault is not None:
            raise StoreUnavailable("injected")

    async def _unlocked(self, partitions: Sequence[int]) -> None:
        waited_s = 0.0
        while any(partition in self.journal.locks for partition in partitions):
            await asyncio.sleep(LOCK_POLL_S)
            waited_s += LOCK_POLL_S
            if waited_s > LOCK_TIMEOUT_S:
                raise StoreUnavailable("55P03: lock timeout")
