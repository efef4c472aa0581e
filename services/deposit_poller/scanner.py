"""Reads the network's list, and records every transaction to one of our deposit addresses, once.

A row counts after two equal readings, if the address itself shows it too and agrees with its own balance.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from services.deposit_poller import metrics
from services.deposit_poller.core.listing import (
    ListedDeposit,
    ListPrefix,
    is_confirmed,
    listed_deposits,
    position_after,
    window_start,
)
from services.deposit_poller.settings import PollerSettings
from services.deposit_poller.store.deposits import DepositStore
from services.deposit_poller.store.mixes import MixStore
from shared.database.postgres import TRANSIENT_FAULTS
from shared.mixer.jobcoin import JobcoinNetwork, Listing, NetworkUnavailable
from shared.mixer.jobcoin_rows import Address, AddressView, ListedRow
from shared.mixer.step_loop import wait_for_wake

log = structlog.get_logger()

LATE_POLLS: Final = 3


class DepositScanner:
    """Reads the list again and again. Several copies may do so: each deposit is still recorded once."""

    def __init__(
        self,
        network: JobcoinNetwork,
        mixes: MixStore,
        deposits: DepositStore,
        settings: PollerSettings,
        *,
        on_recorded: Callable[[], None],
    ) -> None:
        self._network = network
        self._mixes = mixes
        self._deposits = deposits
        self._settings = settings
        self._on_recorded = on_recorded
        # What the database holds of the list's beginning; None while that is not known.
        self._prefix: ListPrefix | None = None
        self._unconfirmed: frozenset[str] = frozenset()
        self._has_new_rows = False
        self._wake = asyncio.Event()
        self._read_s = time.monotonic()

    async def run(self) -> None:
        """Reads until cancelled."""
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
            await wait_for_wake(self._wake, interval_ms / 1_000)

    def wake(self) -> None:
        """A mix was made: its deposit may come at any moment."""
        self._wake.set()

    def lag_s(self) -> float:
        """Seconds since the list was last read to its end."""
        return time.monotonic() - self._read_s

    def missing(self) -> dict[str, str]:
        """What is not ready, and why: the network, if the list was not read for too long."""
        poll_s_max = self._settings.poll_ms_idle / 1_000 + self._settings.network_timeout_s
        if self.lag_s() <= LATE_POLLS * poll_s_max:
            return {}
        return {"network": f"the list was last read {self.lag_s():.0f} s ago"}

    async def tick(self) -> None:
        """One reading. Raises NetworkUnavailable, or what is in TRANSIENT_FAULTS."""
        listing = await self._network.transactions()
        prefix = await self._known_prefix(listing)
        rows, start = listing.rows, window_start(listing.rows, prefix.position)
        mixes = await self._mixes.mixes_at({row.destination for row in rows[start:]})
        found = listed_deposits(self._network.instance, rows, start, mixes)
        known = await self._deposits.known([deposit.id for deposit in found])
        fresh = [deposit for deposit in found if deposit.id not in known]
        confirmed = await self._confirmed([deposit for deposit in fresh if deposit.id in self._unconfirmed])
        unconfirmed = frozenset(deposit.id for deposit in fresh) - {deposit.id for deposit in confirmed}
        self._has_new_rows, self._unconfirmed = not unconfirmed <= self._unconfirmed, unconfirmed
        end = position_after(fresh, {deposit.id for deposit in confirmed}, len(rows))
        await self._record(prefix, rows, max(end, prefix.position), confirmed)
        self._read_s = time.monotonic()
        metrics.LIST_ROWS.set(len(rows))
        metrics.UNCONFIRMED.set(len(self._unconfirmed))

    async def _known_prefix(self, listing: Listing) -> ListPrefix:
        """What need not be read again if the list still begins with it; else nothing: the whole list is read again."""
        known, self._prefix = self._prefix, None
        if known is not None and listing.extends:
            self._prefix = known
            return known
        position, expected = (known.position, known.hash) if known else await self._deposits.cursor()
        found = ListPrefix(listing.rows[:position])
        if found.position != position or found.hash != expected:
            # The network took back what it had said. A deposit that is gone is noticed before its sweep.
            metrics.LIST_CHANGED.inc()
            log.error("list.changed", position=position, rows=len(listing.rows))
            found = ListPrefix()
        return found

    async def _confirmed(self, again: Sequence[ListedDeposit]) -> list[ListedDeposit]:
        """Those of the deposits, now read for a second time, that their address shows too."""
        views: dict[Address, AddressView] = {}
        confirmed: list[ListedDeposit] = []
        for deposit in again:
            address = deposit.row.destination
            if address not in views:
                views[address] = await self._network.address(address)
            if is_confirmed(views[address], deposit):
                confirmed.append(deposit)
            else:
                metrics.DISAGREEMENTS.inc()
                log.warning("deposit.unconfirmed", mix_id=deposit.mix, deposit_id=deposit.id)
        return confirmed

    async def _record(
        self, prefix: ListPrefix, rows: Sequence[ListedRow], end: int, confirmed: Sequence[ListedDeposit]
    ) -> None:
        if end != prefix.position or confirmed or self._prefix is None:
            self._prefix = None
            prefix.extend(rows[prefix.position : end])
            await self._deposits.record(confirmed, prefix)
        self._prefix = prefix
        metrics.CURSOR_ROWS.set(prefix.position)
        for deposit in confirmed:
            log.info("deposit.seen", mix_id=deposit.mix, deposit_id=deposit.id)
        if confirmed:
            self._on_recorded()

    async def _interval_ms(self) -> int:
        if self._has_new_rows:  # a row that its second reading did not confirm can wait longer for its third
            return self._settings.poll_ms_confirm
        return self._settings.poll_ms_open if await self._mixes.is_any_open() else self._settings.poll_ms_idle
