"""How a service of the mixer finds in the journal what it is to act on, once.

The cursors say where to begin. They are moved in the transaction that records what was found.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Generic, Protocol, TypeVar

import structlog
from prometheus_client import Gauge

from shared.database.postgres import TRANSIENT_FAULTS
from shared.domain.ids import Partition
from shared.mixer.step_loop import LATE_S_MAX, wait_for_wake

log = structlog.get_logger()

CURSOR_BATCH: Final = Gauge("mixer_cursor_batch", "Last batch of the journal that was read", ["partition"])
# Cursors that moved past nothing are written this often: reading a little twice is cheaper than a commit each time.
CURSOR_WRITE_S: Final = 10.0
# Events that come meanwhile cause one reading together.
READ_PAUSE_S: Final = 0.05

F = TypeVar("F")


class JournalStore(Protocol[F]):
    """Where the cursors are, and what is looked for. Every method raises what is in postgres.TRANSIENT_FAULTS."""

    async def cursors(self) -> dict[Partition, int]:
        """The last batch that was read of each partition. A partition of which none was read is missing."""
        ...

    async def last_batches(self) -> dict[Partition, int]:
        """The last batch of each partition in the journal."""
        ...

    async def found_between(self, partition: Partition, after: int, until: int) -> Sequence[F]:
        """What is looked for in the batches after `after`, up to `until`."""
        ...

    async def record(self, found: Sequence[F], cursors: Mapping[Partition, int]) -> None:
        """Commits what was found and the cursors together. What is recorded already stays as it is."""
        ...


class JournalReader(Generic[F]):
    """Reads the journal again and again, and at once after `wake` is set. `on_found` is told what was recorded.

    Several copies may do so: each thing is still recorded once.
    """

    def __init__(self, store: JournalStore[F], read_s: float, on_found: Callable[[Sequence[F]], None]) -> None:
        self._store = store
        self._read_s = read_s
        self._on_found = on_found
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
        found: list[F] = []
        for partition, batch in last.items():
            after = self._read.get(partition, 0)
            if batch > after:
                found += await self._store.found_between(partition, after, batch)
            CURSOR_BATCH.labels(str(partition)).set(batch)
        if found or (last != self._written and time.monotonic() - self._written_s > CURSOR_WRITE_S):
            moved = {each: batch for each, batch in last.items() if batch != self._written.get(each)}
            await self._store.record(found, moved)
            self._written, self._written_s = last, time.monotonic()
        self._read = last
        if found:
            self._on_found(found)
