"""Follows the network's list: every transaction to one of our deposit addresses is recorded, once.

A row counts after two equal readings, and if the address itself agrees with it, balance and all.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from services.deposit_poller import metrics
from services.deposit_poller.core.listing import (
    Prefix,
    Sighting,
    is_confirmed,
    position_after,
    sightings,
    window_start,
)
from services.deposit_poller.settings import PollerSettings
from services.deposit_poller.store.deposits import DepositStore
from services.deposit_poller.store.mixes import MixStore
from shared.db import TRANSIENT_FAULTS
from shared.jobcoin import JobcoinNetwork, Listing, NetworkUnavailable
from shared.jobcoin_rows import Address, AddressView, Row

log = structlog.get_logger()

LATE_POLLS: Final = 3


class Follower:
    """Reads the list again and again. Several copies may do so: each deposit is still recorded once."""

    def __init__(
        self,
        network: JobcoinNetwork,
        mixes: MixStore,
        deposits: DepositStore,
        settings: PollerSettings,
        recorded: Callable[[], None],
    ) -> None:
        self._network = network
        self._mixes = mixes
        self._deposits = deposits
        self._settings = settings
        self._recorded = recorded
        self._prefix: Prefix | None = None
        self._waiting: frozenset[str] = frozenset()
        self._is_news = False
        self._wake = asyncio.Event()
        self._read_s = time.monotonic()

    async def run(self) -> None:
        """Follows until cancelled."""
        while True:
            interval_ms = self._settings.poll_ms_idle
            try:
                await self.tick()
                metrics.POLLS.labels("ok").inc()
                interval_ms = await self._interval_ms()
            except NetworkUnavailable as fault:
                metrics.POLLS.labels("unavailable").inc()
                log.warning("list.unavailable", fault=str(fault))
            except TRANSIENT_FAULTS as fault:
                metrics.POLLS.labels("no_database").inc()
                log.warning("list.not_recorded", fault=repr(fault))
            await self._pause(interval_ms / 1_000)

    def wake(self) -> None:
        """A mix was made: its deposit may come at any moment."""
        self._wake.set()

    def lag_s(self) -> float:
        """Seconds since the list was last read to its end."""
        return time.monotonic() - self._read_s

    def is_late(self) -> bool:
        """Whether readings do not come as they should."""
        return self.lag_s() > LATE_POLLS * (self._settings.poll_ms_idle / 1_000 + self._settings.network_timeout_s)

    async def tick(self) -> None:
        """One reading. Raises NetworkUnavailable, or what is in TRANSIENT_FAULTS."""
        listing = await self._network.transactions()
        prefix = await self._known_prefix(listing)
        rows, start = listing.rows, window_start(listing.rows, prefix.position)
        mixes = await self._mixes.mixes_at({row.destination for row in rows[start:]})
        found = sightings(self._network.instance, rows, start, mixes)
        known = await self._deposits.known([sighting.id for sighting in found])
        fresh = [sighting for sighting in found if sighting.id not in known]
        counted = await self._confirmed([sighting for sighting in fresh if sighting.id in self._waiting])
        waiting = frozenset(sighting.id for sighting in fresh) - {sighting.id for sighting in counted}
        self._is_news, self._waiting = not waiting <= self._waiting, waiting
        end = position_after(fresh, {sighting.id for sighting in counted}, len(rows))
        await self._record(prefix, rows, max(end, prefix.position), counted)
        self._read_s = time.monotonic()
        metrics.LIST_ROWS.set(len(rows))
        metrics.UNCONFIRMED.set(len(self._waiting))

    async def _known_prefix(self, listing: Listing) -> Prefix:
        """What was read for good, if the list still begins with it; else the list is read from its beginning."""
        known, self._prefix = self._prefix, None  # until it is recorded again, what we know is what the database says
        if known is not None and listing.extends:
            self._prefix = known
            return known
        position, expected = (known.position, known.hash) if known else await self._deposits.cursor()
        found = Prefix(listing.rows[:position])
        if found.position != position or found.hash != expected:
            # Never silent: the network took back what it had told. A deposit that is gone is found before its sweep.
            metrics.LIST_CHANGED.inc()
            log.error("list.changed", position=position, rows=len(listing.rows))
            found = Prefix()
        return found

    async def _confirmed(self, again: Sequence[Sighting]) -> list[Sighting]:
        views: dict[Address, AddressView] = {}
        confirmed: list[Sighting] = []
        for sighting in again:
            address = sighting.row.destination
            if address not in views:
                views[address] = await self._network.address(address)
            if is_confirmed(views[address], sighting):
                confirmed.append(sighting)
            else:
                metrics.DISAGREEMENTS.inc()
                log.warning("deposit.unconfirmed", mix_id=sighting.mix, deposit_id=sighting.id)
        return confirmed

    async def _record(self, prefix: Prefix, rows: Sequence[Row], end: int, counted: Sequence[Sighting]) -> None:
        if end != prefix.position or counted or self._prefix is None:
            self._prefix = None
            prefix.extend(rows[prefix.position : end])
            await self._deposits.record(counted, prefix)
        self._prefix = prefix
        metrics.CURSOR_ROWS.set(prefix.position)
        for sighting in counted:
            log.info("deposit.seen", mix_id=sighting.mix, deposit_id=sighting.id)
        if counted:
            self._recorded()

    async def _interval_ms(self) -> int:
        if self._is_news:  # a row that is still not confirmed after its second look can wait
            return self._settings.poll_ms_confirm
        return self._settings.poll_ms_open if await self._mixes.is_any_open() else self._settings.poll_ms_idle

    async def _pause(self, seconds: float) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
