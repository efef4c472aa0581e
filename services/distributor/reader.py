"""Finds the credits of mixes in the journal. Events only say when to look; the cursors say where to begin."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from services.distributor import metrics
from services.distributor.store.credits import CreditStore, FoundCredit
from shared.database.postgres import TRANSIENT_FAULTS
from shared.domain.ids import Partition
from shared.mixer.step_loop import wait_for_wake

log = structlog.get_logger()

# Cursors that moved past no credit are written this often: reading a little twice is cheaper than a commit each time.
CURSOR_WRITE_S: Final = 10.0
# Events that come meanwhile cause one reading together.
READ_PAUSE_S: Final = 0.05


class JournalReader:
    """Reads the journal again and again. Several copies may do so: each credit is still recorded once."""

    def __init__(self, store: CreditStore, read_s: float, *, on_recorded: Callable[[], None]) -> None:
        self._store = store
        self._read_s = read_s
        self._on_recorded = on_recorded
        # What was read, and what of it the database holds; None while that is not known.
        self._read: dict[Partition, int] | None = None
        self._written: dict[Partition, int] = {}
        self._written_s = time.monotonic()
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """A mix may have been credited."""
        self._wake.set()

    async def run(self) -> None:
        """Reads until cancelled."""
        while True:
            try:
                await self.tick()
            except TRANSIENT_FAULTS as fault:
                self._read = None
                log.warning("journal.not_read", fault=repr(fault))
            await asyncio.sleep(READ_PAUSE_S)
            await wait_for_wake(self._wake, self._read_s)

    async def tick(self) -> None:
        """Reads every partition to its end. Raises what is in TRANSIENT_FAULTS."""
        if self._read is None:
            self._read = self._written = await self._store.cursors()
        last = await self._store.last_batches()
        found: list[FoundCredit] = []
        for partition, batch in last.items():
            if batch > self._read.get(partition, 0):
                found += await self._store.credits_between(partition, self._read.get(partition, 0), batch)
            metrics.CURSOR_BATCH.labels(str(partition)).set(batch)
        if found or (last != self._written and time.monotonic() - self._written_s > CURSOR_WRITE_S):
            moved = {each: batch for each, batch in last.items() if batch != self._written.get(each)}
            await self._store.record(found, moved)
            self._written, self._written_s = last, time.monotonic()
        self._read = last
        if found:
            metrics.CREDITS.inc(len(found))
            self._on_recorded()
