"""Reads the network's list again and again, and records every transaction to one of our deposit addresses, once."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from services.deposit_poller.confirmations import Confirmations
from services.deposit_poller.core.deposits import ContentKey, ListedDeposit, OurRows, content_key, numbered, our_rows
from services.deposit_poller.settings import PollerSettings
from services.deposit_poller.store.deposits import CursorMoved, DepositStore
from services.deposit_poller.store.mixes import MixStore
from shared.database.postgres import TRANSIENT_FAULTS
from shared.mixer.jobcoin import JobcoinNetwork, Listing, NetworkUnavailable
from shared.mixer.jobcoin_rows import Address, ListedRow, Unreadable
from shared.mixer.json_array import NOTHING_READ, ArrayPosition, ArrayReader
from shared.mixer.step_loop import wait_for_wake
from shared.runtime.fault_points import FaultPoint, fault_point

log = structlog.get_logger()

POLLS = Counter("poller_polls", "Readings of the network's list, by how they ended", ["ended"])
POLL_LAG_SECONDS = Gauge("poller_poll_lag_seconds", "Time since the network's list was last read to its end")
POLL_SECONDS = Gauge("poller_poll_seconds", "How long the last reading of the network's list took")
LIST_ROWS = Gauge("poller_list_rows", "Rows of the network's list that were read")
LIST_CHANGED = Counter("poller_list_changed", "Readings in which rows that had been read were gone or different")
ROWS_UNREADABLE = Counter("poller_rows_unreadable", "Rows to our addresses that could not be read")
LATE_POLLS: Final = 3
# A reading never begins sooner than so many times what the last one took: a long list must not keep us busy.
REST_TIMES: Final = 5
# Rows to our addresses are looked up and recorded so many at a time.
OUR_ROWS_MAX: Final = 2_000
# The cursor moves at least once for so many rows, so that a reading that is cut off has not been in vain.
ROWS_BETWEEN_COMMITS_MAX: Final = 100_000


class ListScanner:
    """One cursor over the whole list. The list only grows, so a beginning that has not changed is hashed, not parsed.

    If it has changed, everything is read anew: what is recorded is known by its content. Several copies may read.
    """

    def __init__(
        self,
        network: JobcoinNetwork,
        mixes: MixStore,
        deposits: DepositStore,
        settings: PollerSettings,
        confirmations: Confirmations,
    ) -> None:
        self._network = network
        self._mixes = mixes
        self._deposits = deposits
        self._settings = settings
        self._confirmations = confirmations
        self._house = Address(settings.house_address)
        # The list's ETag when it was last read to its end, and the cursor then.
        self._known: tuple[str | None, ArrayPosition] = (None, NOTHING_READ)
        self._took_s = 0.0
        self._is_late = False
        # Set once a mix was made: its deposit may come at any moment.
        self.wake = asyncio.Event()
        self._read_s = time.monotonic()
        POLL_LAG_SECONDS.set_function(self.lag_s)

    async def run(self) -> None:
        """Reads until cancelled. Raises StartRefused if the ledger's deposits are of another network."""
        is_checked = False
        while True:
            interval_s = self._settings.poll_ms_idle / 1_000
            try:
                if not is_checked:
                    await self._deposits.check_network()
                    is_checked = True
                await self.tick()
                interval_s = await self._interval_s()
                POLLS.labels("ok").inc()
            except NetworkUnavailable as fault:
                POLLS.labels("unavailable").inc()
                log.warning("list.unavailable", fault=str(fault))
            except CursorMoved:
                POLLS.labels("cursor_moved").inc()
            except TRANSIENT_FAULTS as fault:
                POLLS.labels("no_database").inc()
                log.warning("list.not_recorded", fault=repr(fault))
            self._alert()
            await asyncio.sleep(REST_TIMES * self._took_s)
            await wait_for_wake(self.wake, max(interval_s - REST_TIMES * self._took_s, 0))

    def lag_s(self) -> float:
        """Seconds since the list was last read to its end."""
        return time.monotonic() - self._read_s

    def missing(self) -> dict[str, str]:
        """What is not ready, and why: the network, if deposits have not been seen for too long."""
        lag_s = self.lag_s()
        if lag_s <= self._lag_s_max():
            return {}
        return {"network": f"the list was last read {lag_s:.0f} s ago"}

    async def tick(self) -> None:
        """One reading, and what follows from it.

        Raises NetworkUnavailable, CursorMoved, or what is in TRANSIENT_FAULTS.
        """
        began_s = time.monotonic()
        await self._read()
        self._read_s = time.monotonic()
        self._took_s = self._read_s - began_s
        POLL_SECONDS.set(self._took_s)
        await self._confirmations.tick()

    async def _read(self) -> None:
        cursor = await self._deposits.cursor()
        etag, known = self._known
        if cursor == NOTHING_READ or not await self._read_on(cursor, etag if known == cursor else None):
            await self._read_anew(cursor)

    async def _read_on(self, cursor: ArrayPosition, etag: str | None) -> bool:
        """Reads what follows the cursor. False if the list does not begin with what the cursor stands for."""
        reader, rows = ArrayReader(cursor), list[ListedRow]()
        async with self._network.listing(etag) as listing:
            if listing is None:
                return True
            async for piece in listing.pieces:
                rows += self._ours(reader.feed(piece)).deposits
                if reader.is_changed:
                    return False
                if reader.rows - cursor.rows >= ROWS_BETWEEN_COMMITS_MAX or len(rows) >= OUR_ROWS_MAX:
                    cursor, rows = await self._extend(cursor, reader.position, rows), []
            if not reader.is_past_known:
                return False
            if not reader.is_complete:
                raise Unreadable("the list ends in the middle")
        if reader.position != cursor:
            cursor = await self._extend(cursor, reader.position, rows)
        self._read_to_end(listing, cursor, cursor.rows)
        return True

    async def _read_anew(self, cursor: ArrayPosition) -> None:
        """Reads the whole list, counts by content, and finds out which of our rows it lacks."""
        if cursor != NOTHING_READ:
            LIST_CHANGED.inc()
            log.warning("list.changed", rows=cursor.rows)
        reader, rows, counts = ArrayReader(), list[ListedRow](), dict[ContentKey, int]()
        # Read before the list is: what is swept meanwhile need not be in it.
        expected = [each async for each in self._deposits.contents()]
        async with self._network.listing(None) as listing:
            if listing is None:
                raise Unreadable("a list that was asked for without its ETag")
            async for piece in listing.pieces:
                found = self._ours(reader.feed(piece))
                rows += found.deposits
                for row in found.sweeps:
                    key = content_key(row.source, row.destination, row.units)
                    counts[key] = counts.get(key, 0) + 1
                if len(rows) >= OUR_ROWS_MAX:
                    await self._add(rows, counts)
                    rows = []
            if not reader.is_complete:
                raise Unreadable("the list ends in the middle")
        await self._add(rows, counts)
        missing = {address for address, key, known in expected if counts.get(key, 0) < known}
        # While the list lacks something it is read anew each time: what comes back at its end would look new.
        after = NOTHING_READ if missing else reader.position
        disputed, settled = await self._deposits.replace_cursor(cursor, after, missing)
        if disputed:
            log.error("deposits.disputed", addresses=disputed)
        if settled:
            log.info("deposits.settled", addresses=settled)
        self._read_to_end(listing, after, reader.rows)

    def _ours(self, values: Sequence[object]) -> OurRows:
        found = our_rows(values, self._house)
        if found.unreadable:
            ROWS_UNREADABLE.inc(found.unreadable)
            log.error("list.rows_unreadable", rows=found.unreadable)
        return found

    async def _extend(self, before: ArrayPosition, after: ArrayPosition, rows: Sequence[ListedRow]) -> ArrayPosition:
        mixes = await self._mixes.mixes_at({row.destination for row in rows})
        counts = await self._deposits.known([row for row in rows if row.destination in mixes])
        found = numbered(rows, mixes, counts)
        await self._deposits.extend(before, after, found)
        self._log_recorded(found)
        return after

    async def _add(self, rows: Sequence[ListedRow], counts: dict[ContentKey, int]) -> None:
        mixes = await self._mixes.mixes_at({row.destination for row in rows})
        await self._deposits.add(numbered(rows, mixes, counts))

    def _log_recorded(self, found: Sequence[ListedDeposit]) -> None:
        for deposit in found:
            log.info("deposit.seen", mix_id=deposit.mix, occurrence=deposit.occurrence)
        if found:
            fault_point(FaultPoint.POLLER_AFTER_DEPOSIT_WRITTEN)

    def _read_to_end(self, listing: Listing, cursor: ArrayPosition, rows: int) -> None:
        self._known = (listing.etag, cursor)
        LIST_ROWS.set(rows)

    def _lag_s_max(self) -> float:
        poll_s_max = self._settings.poll_ms_idle / 1_000 + self._settings.network_timeout_s
        return LATE_POLLS * poll_s_max + 2 * REST_TIMES * self._took_s

    def _alert(self) -> None:
        """One line when deposits have not been seen for too long, and one when they are seen again."""
        is_late, was_late = bool(self.missing()), self._is_late
        self._is_late = is_late
        if is_late and not was_late:
            log.error("deposits.unseen", lag_s=round(self.lag_s()))
        elif was_late and not is_late:
            log.info("deposits.seen_again")

    async def _interval_s(self) -> float:
        is_open = await self._mixes.is_any_open() or self._confirmations.has_unconfirmed
        return (self._settings.poll_ms_open if is_open else self._settings.poll_ms_idle) / 1_000
