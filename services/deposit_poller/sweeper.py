"""Brings a recorded deposit in: swept to the house, seen there in the network's list, credited in the ledger."""

from dataclasses import replace
from typing import Final

import structlog
from typing_extensions import override

from services.deposit_poller.core.deposits import SWEEP, Deposit, DepositState
from services.deposit_poller.settings import PollerSettings
from services.deposit_poller.store.deposits import DepositStore
from shared.domain.money import AMOUNT_MINOR_MAX
from shared.mixer.claimed_rows import Leg
from shared.mixer.jobcoin import JobcoinNetwork
from shared.mixer.jobcoin_rows import Address, Transfer, numbered, row_id
from shared.mixer.ledger import MixerLedger
from shared.mixer.step_loop import ClaimDeadline
from shared.mixer.transfers import TransferLoop
from shared.runtime.fault_points import FaultPoint

log = structlog.get_logger()

FAULT_POINTS: Final = (
    FaultPoint.POLLER_AFTER_SWEEP_INTENT,
    FaultPoint.POLLER_AFTER_SWEEP_SENT,
    FaultPoint.POLLER_AFTER_SWEEP_SEEN,
)


class Sweeper(TransferLoop[Deposit]):
    """Works on one claimed deposit at a time."""

    def __init__(
        self, network: JobcoinNetwork, ledger: MixerLedger, deposits: DepositStore, settings: PollerSettings
    ) -> None:
        super().__init__(network, deposits, DepositState.STUCK, settings, FAULT_POINTS)
        self._ledger = ledger
        self._house = Address(settings.house_address)

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
    def under_way(self, row: Deposit, leg: Leg, intent_id: str) -> Deposit:
        return replace(row, state=leg.under_way)

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
            if decision is None or not await self.is_posted(deposit, "credit", decision):
                return None
            credited = replace(credited, credit_operation=decision.id)
        await self._store.move(deposit, credited)
        log.info("deposit.credited", deposit_id=deposit.id, mix_id=deposit.mix)
        return None
