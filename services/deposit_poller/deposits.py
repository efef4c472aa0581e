"""Deposits: found in the network's list, recorded once, and brought in."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import structlog
from prometheus_client import Counter, Gauge
from typing_extensions import override

from services.deposit_poller.core.deposits import (
    SWEEP,
    Deposit,
    DepositState,
    ListedDeposit,
    ListPrefix,
    is_confirmed,
    listed_deposits,
    position_after,
    window_start,
)
from services.deposit_poller.settings import PollerSettings
from services.deposit_poller.store import DepositStore, MixStore
from shared.database.postgres import TRANSIENT_FAULTS
from shared.domain.money import AMOUNT_MINOR_MAX
from shared.mixer.claimed_rows import Leg
from shared.mixer.jobcoin import JobcoinNetwork, Listing, NetworkUnavailable
from shared.mixer.jobcoin_rows import Address, AddressView, ListedRow, Transfer, numbered, row_id
from shared.mixer.step_loop import ClaimDeadline, wait_for_wake
from shared.mixer.transfers import TransferLoop
from shared.runtime.fault_points import FaultPoint

log = structlog.get_logger()

POLLS = Counter("poller_polls", "Readings of the network's list, by how they ended", ["ended"])
POLL_LAG_SECONDS = Gauge("poller_poll_lag_seconds", "Time since the network's list was last read to its end")
CURSOR_ROWS = Gauge("poller_cursor_rows", "Rows of the network's list that need not be read again")
LIST_ROWS = Gauge("poller_list_rows", "Rows of the network's list")
LIST_CHANGED = Counter("poller_list_changed", "Readings in which rows that had been read were gone or different")
UNCONFIRMED = Gauge("poller_unconfirmed", "Rows to our addresses that wait for a second reading")
DISAGREEMENTS = Counter("poller_disagreements", "Second readings in which an address did not agree with the list")
LATE_POLLS: Final = 3


class DepositScanner:
    """Reads the list again and again, and records every transaction to one of our deposit addresses, once.

    A row counts after two equal readings, if the address itself shows it too and agrees with its own balance. Several
    copies may read: each deposit is still recorded once.
    """

    def __init__(
        self,
        network: JobcoinNetwork,
        mixes: MixStore,
        deposits: DepositStore,
        settings: PollerSettings,
        *,
        wake_sweeper: asyncio.Event,
    ) -> None:
        self._network = network
        self._mixes = mixes
        self._deposits = deposits
        self._settings = settings
        self._wake_sweeper = wake_sweeper
        # What the database holds of the list's beginning; None while that is not known.
        self._prefix: ListPrefix | None = None
        self._unconfirmed: frozenset[str] = frozenset()
        self._has_new_rows = False
        # Set once a mix was made: its deposit may come at any moment.
        self.wake = asyncio.Event()
        self._read_s = time.monotonic()
        POLL_LAG_SECONDS.set_function(self.lag_s)

    async def run(self) -> None:
        """Reads until cancelled."""
        while True:
            interval_ms = self._settings.poll_ms_idle
            try:
                await self.tick()
                POLLS.labels("ok").inc()
                interval_ms = await self._interval_ms()
            except NetworkUnavailable as fault:
                POLLS.labels("unavailable").inc()
                log.warning("list.unavailable", fault=str(fault))
            except TRANSIENT_FAULTS as fault:
                POLLS.labels("no_database").inc()
                log.warning("list.not_recorded", fault=repr(fault))
            await wait_for_wake(self.wake, interval_ms / 1_000)

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
        LIST_ROWS.set(len(rows))
        UNCONFIRMED.set(len(self._unconfirmed))

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
            LIST_CHANGED.inc()
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
                DISAGREEMENTS.inc()
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
        CURSOR_ROWS.set(prefix.position)
        for deposit in confirmed:
            log.info("deposit.seen", mix_id=deposit.mix, deposit_id=deposit.id)
        if confirmed:
            self._wake_sweeper.set()

    async def _interval_ms(self) -> int:
        if self._has_new_rows:  # a row that its second reading did not confirm can wait longer for its third
            return self._settings.poll_ms_confirm
        return self._settings.poll_ms_open if await self._mixes.is_any_open() else self._settings.poll_ms_idle


class Sweeper(TransferLoop[Deposit]):
    """Brings a recorded deposit in: swept to the house, seen there in the network's list, credited in the ledger."""

    stuck = DepositState.STUCK
    fault_points = (
        FaultPoint.POLLER_AFTER_SWEEP_INTENT,
        FaultPoint.POLLER_AFTER_SWEEP_SENT,
        FaultPoint.POLLER_AFTER_SWEEP_SEEN,
    )

    @override
    async def step(self, row: Deposit, deadline: ClaimDeadline) -> Deposit | None:
        match row.state:
            case DepositState.SEEN:
                return await self._sweep(row, deadline)
            case DepositState.SWEEPING:
                return await self.read_end(row, SWEEP)
            case DepositState.SWEPT:
                return await self._credit(row)
            case DepositState.CREDITED | DepositState.STUCK:
                return None

    @override
    def transfer(self, row: Deposit, leg: Leg) -> Transfer:
        # Exactly the listed amount: the address's balance may hold another deposit, too.
        return Transfer(row.listed.destination, self._house, row.listed.units)

    async def _sweep(self, deposit: Deposit, deadline: ClaimDeadline) -> Deposit | None:
        view = await self._network.address(deposit.listed.destination)
        instance = self._network.instance
        if not any(row_id(instance, row, occurrence) == deposit.id for row, occurrence in numbered(view.rows)):
            return await self.fail(deposit, "the deposit is no longer in the list")
        return await self.send(deposit, SWEEP, deadline)

    async def _credit(self, deposit: Deposit) -> Deposit | None:
        if deposit.minor > AMOUNT_MINOR_MAX:
            return await self.stop(deposit, "more than the ledger's greatest amount")
        credited = replace(deposit, state=DepositState.CREDITED, attempts=0)
        if deposit.minor:  # else it is worth less than one minor unit
            decision = await self._ledger.credit(deposit.mix, deposit.id, deposit.credit_attempt, deposit.minor)
            operation = await self.posted(deposit, "credit", decision)
            if operation is None:
                return None
            credited = replace(credited, credit_operation=operation)
        await self._store.move(deposit, credited)
        log.info("deposit.credited", deposit_id=deposit.id, mix_id=deposit.mix)
        return None
