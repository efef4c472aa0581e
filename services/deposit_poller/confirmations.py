"""Deposits that the list shows: confirmed by their address, and collected into sweeps once they are worth it."""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from services.deposit_poller.core.deposits import UnconfirmedDeposit, content_key, is_confirmed, stored
from services.deposit_poller.store.deposits import DepositStore
from shared.mixer.jobcoin import JobcoinNetwork, NetworkUnavailable
from shared.mixer.jobcoin_rows import Address
from shared.runtime.fault_points import FaultPoint, fault_point

log = structlog.get_logger()

UNCONFIRMED = Gauge("poller_unconfirmed", "Listed deposits that their address does not show yet")
DISPUTED = Gauge("poller_disputed", "Deposit addresses of which the list lacks transactions that it had shown")
DISAGREEMENTS = Counter("poller_disagreements", "Readings in which an address did not show what the list shows")
SWEEPS = Counter("poller_sweeps", "Sweeps planned")
DEPOSITS_MAX: Final = 2_000
MIXES_MAX: Final = 1_000
ADDRESSES_AT_ONCE_MAX: Final = 8
POSTPONE_S: Final = 0.1
# An address that disagrees may do so for ever; one that could not be read is only away.
POSTPONE_S_MAX: Final = 3_600.0
POSTPONE_S_MAX_UNREAD: Final = 30.0


class Confirmations:
    """A deposit counts once its address shows it too, and agrees with its own balance. Several copies may look."""

    def __init__(self, network: JobcoinNetwork, deposits: DepositStore, *, wake_sweeper: asyncio.Event) -> None:
        self._network = network
        self._deposits = deposits
        self._wake_sweeper = wake_sweeper
        self._slots = asyncio.Semaphore(ADDRESSES_AT_ONCE_MAX)
        self.has_unconfirmed = False

    async def tick(self) -> None:
        """Asks every address with unconfirmed deposits once, and plans sweeps. Raises what is in TRANSIENT_FAULTS."""
        by_address: dict[Address, list[UnconfirmedDeposit]] = {}
        for deposit in await self._deposits.unconfirmed(DEPOSITS_MAX):
            by_address.setdefault(deposit.address, []).append(deposit)
        # One after the other if one fails: a fault of the database ends the tick, and the next one takes it up.
        await asyncio.gather(*(self._confirm(address, deposits) for address, deposits in by_address.items()))
        for mix in await self._deposits.worth_sweeping(MIXES_MAX):
            if (sweep := await self._deposits.plan_sweep(mix)) is not None:
                fault_point(FaultPoint.POLLER_AFTER_SWEEP_PLANNED)
                SWEEPS.inc()
                log.info("sweep.planned", sweep_id=sweep, mix_id=mix)
                self._wake_sweeper.set()
        unconfirmed, disputed = await self._deposits.counts()
        self.has_unconfirmed = unconfirmed > 0
        UNCONFIRMED.set(unconfirmed)
        DISPUTED.set(disputed)

    async def _confirm(self, address: Address, deposits: Sequence[UnconfirmedDeposit]) -> None:
        async with self._slots:
            try:
                view = await self._network.address(address)
            except NetworkUnavailable as fault:
                log.warning("deposit.unconfirmed", mix_id=deposits[0].mix, fault=str(fault))
                await self._deposits.postpone(deposits, POSTPONE_S, POSTPONE_S_MAX_UNREAD)
                return
        counts = {
            content_key(stored(each.source), each.destination, each.units): count
            for each, count in view.counts.items()
            if each.destination == address
        }
        shown = {each.id for each in deposits if view.agrees and is_confirmed(counts, each)}
        confirmed = [each for each in deposits if each.id in shown]
        rest = [each for each in deposits if each.id not in shown]
        if confirmed:
            await self._deposits.confirm(confirmed)
            log.info("deposits.confirmed", mix_id=deposits[0].mix, deposits=len(confirmed))
        if rest:
            DISAGREEMENTS.inc()
            log.warning("deposit.unconfirmed", mix_id=deposits[0].mix, deposits=len(rest))
            await self._deposits.postpone(rest, POSTPONE_S, POSTPONE_S_MAX)
