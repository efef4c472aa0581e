"""Credits of mixes: found in the journal, and planned into payouts.

Events only say when to look into the journal; the cursors say where to begin.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import structlog
from prometheus_client import Counter, Gauge
from typing_extensions import override

from services.distributor.core.credits import CreditState, MixCredit, fee_of, plan
from services.distributor.core.decisions import PayoutDecision
from services.distributor.settings import DistributorSettings
from services.distributor.store.credits import CreditStore, FoundCredit
from shared.broker.channels import Channel, Connection, consume_exclusive_queue
from shared.broker.connection import ManagedConnection
from shared.broker.declare import declare_exchange
from shared.database.postgres import TRANSIENT_FAULTS
from shared.domain.ids import Partition
from shared.messages import topology
from shared.mixer.ledger import MixerLedger
from shared.mixer.step_loop import LATE_S_MAX, ClaimDeadline, StepLoop, wait_for_wake

log = structlog.get_logger()

CREDITS = Counter("distributor_credits", "Credits of mixes found in the journal")
CURSOR_BATCH = Gauge("distributor_cursor_batch", "Last batch of the journal that was read", ["partition"])
NUDGES = Counter("distributor_nudges", "Events about mixes")
EVENTS_MAX: Final = 100
# How an account of a mix begins in an event. Looking for it is cheaper than parsing all events of a busy ledger.
MIX_ACCOUNT: Final = b'"mix:'
# Cursors that moved past no credit are written this often: reading a little twice is cheaper than a commit each time.
CURSOR_WRITE_S: Final = 10.0
# Events that come meanwhile cause one reading together.
READ_PAUSE_S: Final = 0.05


def mix_events(url: str, name: str, partitions: int, *, wake_reader: asyncio.Event) -> ManagedConnection:
    """Sets `wake_reader` after events about mixes.

    It may miss some: the journal is read again without an event, too.
    """

    def receive(body: bytes) -> None:
        if MIX_ACCOUNT in body:
            NUDGES.inc()
            wake_reader.set()

    async def opened(connection: Connection) -> Sequence[Channel]:
        channel, queue = await consume_exclusive_queue(connection, receive, length_max=EVENTS_MAX)
        await declare_exchange(channel, topology.EVENTS)
        for key in topology.PARTITION_KEYS[:partitions]:
            await channel.queue_bind(queue, topology.EVENTS, key)
        wake_reader.set()  # there may have been events while it was not connected
        return [channel]

    return ManagedConnection(url, name=f"{name}.events", opened=opened)


class JournalReader:
    """Reads the journal again and again, and at once after `wake` is set: a mix may have been credited.

    Several copies may do so: each credit is still recorded once.
    """

    def __init__(self, store: CreditStore, read_s: float, *, wake_planner: asyncio.Event) -> None:
        self._store = store
        self._read_s = read_s
        self._wake_planner = wake_planner
        # Each partition's last batch that was read (None while it is not known), and as the database holds it.
        self._read: dict[Partition, int] | None = None
        self._written: dict[Partition, int] = {}
        self._written_s = time.monotonic()
        self._ticked_s = time.monotonic()
        self.wake = asyncio.Event()

    async def run(self) -> None:
        """Reads until cancelled."""
        while True:
            try:
                await self.tick()
                self._ticked_s = time.monotonic()
            except TRANSIENT_FAULTS as fault:
                self._read = None
                log.warning("journal.not_read", fault=repr(fault))
            await asyncio.sleep(READ_PAUSE_S)
            await wait_for_wake(self.wake, self._read_s)

    def missing(self) -> dict[str, str]:
        """What is not ready, and why: the journal, if it was not read lately."""
        late_s = time.monotonic() - self._ticked_s
        return {"journal": f"it was last read {late_s:.0f} s ago"} if late_s > self._read_s + LATE_S_MAX else {}

    async def tick(self) -> None:
        """Reads every partition to its end. Raises what is in TRANSIENT_FAULTS."""
        if self._read is None:
            self._read = self._written = await self._store.cursors()
        last = await self._store.last_batches()
        found: list[FoundCredit] = []
        decisions: list[PayoutDecision] = []
        for partition, batch in last.items():
            after = self._read.get(partition, 0)
            if batch > after:
                found += await self._store.credits_between(partition, after, batch)
                decisions += await self._store.decisions_between(partition, after, batch)
            CURSOR_BATCH.labels(str(partition)).set(batch)
        if found or decisions or (last != self._written and time.monotonic() - self._written_s > CURSOR_WRITE_S):
            moved = {each: batch for each, batch in last.items() if batch != self._written.get(each)}
            await self._store.record(found, decisions, moved)
            self._written, self._written_s = last, time.monotonic()
        self._read = last
        if found:
            CREDITS.inc(len(found))
            self._wake_planner.set()


class Planner(StepLoop[MixCredit]):
    """Takes the fee of a claimed credit and plans its payouts."""

    stuck = CreditState.STUCK

    def __init__(self, ledger: MixerLedger, credits: CreditStore, settings: DistributorSettings) -> None:
        super().__init__(ledger, credits, settings)
        self._credits = credits
        self._payout_min = settings.payout_min_minor

    @override
    async def step(self, row: MixCredit, deadline: ClaimDeadline) -> None:
        terms = await self._credits.terms(row)
        fee = fee_of(row.amount, terms.fee_ppm)
        if fee:
            decision = await self._ledger.fee(row.mix, row.id, row.fee_attempt, fee)
            if await self.posted(row, "fee", decision) is None:
                return
        payouts = plan(row.amount - fee, terms, self._payout_min, row.seed)
        await self._credits.write_plan(row, replace(row, state=CreditState.PLANNED, fee=fee, attempts=0), payouts)
        log.info("credit.planned", credit_id=row.id, mix_id=row.mix, payouts=len(payouts))
