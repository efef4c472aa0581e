"""Pays one payout: ledger hold, house → one-shot address, one-shot address → destination, capture."""

from dataclasses import replace
from typing import Final

import structlog
from typing_extensions import override

from services.distributor import metrics
from services.distributor.core.payouts import FUND, PAY, Payout, PayoutState, one_shot_address
from services.distributor.settings import DistributorSettings
from services.distributor.store.payouts import PayoutStore
from shared.domain.lifecycle import InvariantBroken
from shared.mixer.claimed_rows import Leg
from shared.mixer.jobcoin import JobcoinNetwork
from shared.mixer.jobcoin_rows import Address, Transfer
from shared.mixer.ledger import MixerLedger
from shared.mixer.step_loop import ClaimDeadline
from shared.mixer.transfers import TransferLoop
from shared.runtime.fault_points import FaultPoint, fault_point

log = structlog.get_logger()

FAULT_POINTS: Final = (
    FaultPoint.DISTRIBUTOR_AFTER_INTENT,
    FaultPoint.DISTRIBUTOR_AFTER_SEND,
    FaultPoint.DISTRIBUTOR_AFTER_SEEN,
)


class Payer(TransferLoop[Payout]):
    """Works on one claimed payout at a time."""

    def __init__(
        self, network: JobcoinNetwork, ledger: MixerLedger, payouts: PayoutStore, settings: DistributorSettings
    ) -> None:
        super().__init__(network, payouts, PayoutState.STUCK, settings, FAULT_POINTS)
        self._ledger = ledger
        self._payouts = payouts
        self._house = Address(settings.house_address)

    @override
    async def set_gauges(self) -> None:
        await super().set_gauges()
        metrics.OLDEST_DUE_SECONDS.set(await self._payouts.oldest_due_s())

    @override
    async def step(self, row: Payout, deadline: ClaimDeadline) -> Payout | None:
        match row.state:
            case PayoutState.PLANNED:
                return await self._hold(row)
            case PayoutState.HELD:
                return await self.send(row, FUND, deadline)
            case PayoutState.FUNDING:
                return await self.read_end(row, FUND)
            case PayoutState.FUNDED:
                return await self.send(row, PAY, deadline)
            case PayoutState.SENDING:
                return await self.read_end(row, PAY)
            case PayoutState.SENT:
                return await self._capture(row)
            case PayoutState.PAID | PayoutState.STUCK:
                return None

    @override
    def under_way(self, row: Payout, leg: Leg, intent_id: str) -> Payout:
        return replace(row, state=leg.under_way, address=one_shot_address(intent_id) if leg is FUND else row.address)

    @override
    def transfer(self, row: Payout, leg: Leg) -> Transfer:
        return row.transfer(leg, self._house)

    async def _hold(self, payout: Payout) -> Payout | None:
        decision = await self._ledger.hold(payout.mix, payout.id, payout.hold_attempt, payout.amount)
        if not await self.is_posted(payout, "hold", decision):
            return None
        fault_point(FaultPoint.DISTRIBUTOR_AFTER_HOLD)
        hold = self._ledger.hold_id(payout.id, payout.hold_attempt)
        return await self._store.move(payout, replace(payout, state=PayoutState.HELD, hold=hold, attempts=0))

    async def _capture(self, payout: Payout) -> Payout | None:
        if payout.hold is None:
            raise InvariantBroken(f"payout {payout.id} was sent without a hold")
        decision = await self._ledger.capture(payout.mix, payout.id, payout.capture_attempt, payout.hold)
        if await self.is_posted(payout, "capture", decision):
            await self._store.move(payout, replace(payout, state=PayoutState.PAID, attempts=0))
            log.info("payout.paid", payout_id=payout.id)
        return None
