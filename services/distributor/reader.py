"""Reads the credits of mixes in the journal. Events only say when to look; the cursors say from where."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from services.distributor import metrics
from services.distributor.store.credits import CreditStore
from shared.db import TRANSIENT_FAULTS
from shared.ids import Partition

log = structlog.get_logger()

# Cursors without credits are kept in memory and written now and then: reading a little twice is cheaper than a commit.
CURSOR_WRITE_S: Final = 10.0
READ_PAUSE_S: Final = 0.05


class JournalReader:
    """Several copies may read: each credit is still recorded once."""

    def __init__(self, store: CreditStore, read_s: float, recorded: Callable[[], None]) -> None:
        self._store = store
        self._read_s = read_s
        self._recorded = recorded
        self._cursors: dict[Partition, int] | None = None
        self._unwritten: dict[Partition, int] = {}
        self._written_s = time.monotonic()
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """A mix was credited."""
        self._wake.set()

    async def run(self) -> None:
        """Reads until cancelled."""
        while True:
            try:
                await self.tick()
            except TRANSIENT_FAULTS as fault:
                self._cursors = None
                log.warning("journal.unread", fault=repr(fault))
            await asyncio.sleep(READ_PAUSE_S)
            await self._pause()

    async def tick(self) -> None:
        """Reads every partition to its end. Raises what is in TRANSIENT_FAULTS."""
        if self._cursors is None:
            self._unwritten = {}
            self._cursors = await self._store.cursors()
        found: list[tuple[str, str, int]] = []
        for partition, head in (await self._store.heads()).items():
            cursor = self._cursors.get(partition, 0)
            if head > cursor:
                found += await self._store.credits_between(partition, cursor, head)
                self._unwritten[partition] = head
        is_time = time.monotonic() - self._written_s > CURSOR_WRITE_S
        if found or (self._unwritten and is_time):
            await self._store.record(found, self._unwritten)
            self._written_s = time.monotonic()
            self._cursors |= self._unwritten
            self._unwritten = {}
        else:
            self._cursors |= self._unwritten
        for partition, batch in self._cursors.items():
            metrics.CURSOR_BATCH.labels(str(partition)).set(batch)
        if found:
            metrics.CREDITS.inc(len(found))
            self._recorded()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._read_s):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()
