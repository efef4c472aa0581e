"""Pays the payouts that are due, and takes back what arrived where no payout needs it any more."""

import asyncio
from dataclasses import replace
from typing import Final

import structlog
from prometheus_client import Counter, Gauge
from typing_extensions import override

from services.distributor.core.payouts import FUND, PAY, Payout, PayoutState, one_shot_address
from services.distributor.settings import DistributorSettings
from services.distributor.store.payouts import PayoutStore
from shared.database.postgres import TRANSIENT_FAULTS
from shared.domain.lifecycle import InvariantBroken
from shared.domain.rejections import Rejection
from shared.mixer.claimed_rows import Leg
from shared.mixer.jobcoin import JobcoinNetwork, NetworkFault
from shared.mixer.jobcoin_rows import Transfer
from shared.mixer.ledger import MixerLedger
from shared.mixer.step_loop import ClaimDeadline
from shared.mixer.transfers import TransferLoop
from shared.runtime.fault_points import FaultPoint, fault_point

log = structlog.get_logger()

OLDEST_DUE_SECONDS = Gauge("distributor_oldest_due_seconds", "For how long the oldest unpaid payout has been due")
RETURNED = Counter("distributor_returned", "Fundings that came later than the settle time, and were sent back")
# Rejections that say that the account of the mix is no more.
GONE: Final = frozenset({Rejection.ACCOUNT_CLOSED, Rejection.ACCOUNT_NOT_FOUND})
# So many addresses are looked at together.
FUNDINGS_MAX: Final = 8


class Payer(TransferLoop[Payout]):
    """Pays a claimed payout: ledger hold, house → one-shot address, one-shot address → destination, capture."""

    stuck = PayoutState.STUCK
    fault_points = (
        FaultPoint.DISTRIBUTOR_AFTER_INTENT,
        FaultPoint.DISTRIBUTOR_AFTER_SEND,
        FaultPoint.DISTRIBUTOR_AFTER_SEEN,
    )

    def __init__(
        self, network: JobcoinNetwork, ledger: MixerLedger, payouts: PayoutStore, settings: DistributorSettings
    ) -> None:
        super().__init__(network, ledger, payouts, settings)
        self._payouts = payouts

    @override
    async def set_gauges(self) -> None:
        await super().set_gauges()
        OLDEST_DUE_SECONDS.set(await self._payouts.oldest_due_s())

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
                return await self._pay(row, deadline)
            case PayoutState.SENDING:
                return await self.read_end(row, PAY)
            case PayoutState.SENT:
                return await self._capture(row)
            case PayoutState.RESOLVING:
                return await self._resolve(row)
            case PayoutState.CANCELLING:
                return await self._cancel(row)
            case PayoutState.PAID | PayoutState.STUCK | PayoutState.RESOLVED | PayoutState.CANCELLED:
                return None

    @override
    def under_way(self, row: Payout, leg: Leg, intent_id: str) -> Payout:
        return replace(row, state=leg.under_way, address=one_shot_address(intent_id) if leg is FUND else row.address)

    @override
    def transfer(self, row: Payout, leg: Leg) -> Transfer:
        return row.transfer(leg, self._house)

    async def _hold(self, payout: Payout) -> Payout | None:
        decision = await self._ledger.hold(payout.mix, payout.id, payout.hold_attempt, payout.amount)
        if await self.posted(payout, "hold", decision) is None:
            return None
        fault_point(FaultPoint.DISTRIBUTOR_AFTER_HOLD)
        hold = self._ledger.hold_id(payout.id, payout.hold_attempt)
        return await self._store.move(payout, replace(payout, state=PayoutState.HELD, hold=hold, attempts=0))

    async def _capture(self, payout: Payout) -> Payout | None:
        if payout.hold is None:
            raise InvariantBroken(f"payout {payout.id} was sent without a hold")
        fault_point(FaultPoint.DISTRIBUTOR_BEFORE_CAPTURE)
        decision = await self._ledger.capture(payout.mix, payout.id, payout.capture_attempt, payout.hold)
        fault_point(FaultPoint.DISTRIBUTOR_AFTER_CAPTURE)
        if await self.posted(payout, "capture", decision) is not None:
            await self._store.move(payout, replace(payout, state=PayoutState.PAID, attempts=0))
            log.info("payout.paid", payout_id=payout.id)
        return None

    async def _pay(self, payout: Payout, deadline: ClaimDeadline) -> Payout | None:
        """Sends the coins on, unless a try has failed because somebody took them: no time brings them back.

        If the list shows that they went to the receiver, a reading took it for absent that came too early or hid it.
        """
        funding = payout.transfer(FUND, self._house)
        if payout.attempts:
            view = await self._network.address(funding.destination)
            if view.agrees and view.find(payout.transfer(PAY, self._house)) is not None:
                return await self.send(payout, PAY, deadline, is_listed=True)
            if view.agrees and view.find(funding) is not None and view.balance < funding.units:
                return await self.stop(payout, "somebody took the coins from the one-shot address")
        return await self.send(payout, PAY, deadline)

    async def _resolve(self, payout: Payout) -> None:
        """It was paid by other means, so what was held for it is captured: placed first, if there is no such hold."""
        decision = await self._ledger.hold(payout.mix, payout.id, payout.hold_attempt, payout.amount)
        if decision is not None and decision.code in GONE:
            await self._end(payout, PayoutState.RESOLVED)  # an account that was closed is empty
            return
        if await self.posted(payout, "hold", decision) is None:
            return
        hold = self._ledger.hold_id(payout.id, payout.hold_attempt)
        decision = await self._ledger.capture(payout.mix, payout.id, payout.capture_attempt, hold)
        if decision is not None and decision.code == Rejection.HOLD_NOT_OPEN:
            # Somebody ended it: the next one takes its place. The capture's attempt first, since the same capture of
            # another hold would be another command with the same id.
            await self._store.next_attempt(payout, "capture")
            await self._store.next_attempt(payout, "hold")
            await self.fail(payout, "the hold was ended by somebody else")
        elif await self.posted(payout, "capture", decision) is not None:
            await self._end(payout, PayoutState.RESOLVED)

    async def _cancel(self, payout: Payout) -> None:
        """Nothing was sent, so what was held is given back.

        A hold may be on its way to the ledger, although nobody waits for it any more: once the same command has an
        outcome, no other can follow.
        """
        decision = await self._ledger.hold(payout.mix, payout.id, payout.hold_attempt, payout.amount)
        if decision is not None and decision.code is not None:
            await self._end(payout, PayoutState.CANCELLED)
            return
        if await self.posted(payout, "hold", decision) is None:
            return
        hold = self._ledger.hold_id(payout.id, payout.hold_attempt)
        decision = await self._ledger.void(payout.mix, payout.id, payout.capture_attempt, hold)
        is_gone = decision is not None and decision.code == Rejection.HOLD_NOT_OPEN
        if is_gone or await self.posted(payout, "capture", decision) is not None:
            await self._end(payout, PayoutState.CANCELLED)

    async def _end(self, payout: Payout, state: PayoutState) -> None:
        await self._store.move(payout, replace(payout, state=state, attempts=0))
        log.info("payout.ended", payout_id=payout.id, ended=state)


class Reclaimer:
    """Sends back fundings that came too late: they were taken for absent, and were applied after all.

    The one-shot address of such a funding belongs to no payout any more, so the coins there are the house's. To send
    them back needs no intent: both addresses are ours, and the network's check of the balance lets the coins be sent
    only once. Several copies may look for such fundings.
    """

    def __init__(self, network: JobcoinNetwork, store: PayoutStore, reclaim_s: float) -> None:
        self._network = network
        self._store = store
        self._reclaim_s = reclaim_s

    async def run(self) -> None:
        """Looks every `reclaim_s` until cancelled."""
        while True:
            try:
                await self.tick()
            except* TRANSIENT_FAULTS as faults:  # of one funding, or of several that are looked at together
                log.warning("reclaim.interrupted", faults=repr(faults.exceptions))
            await asyncio.sleep(self._reclaim_s)

    async def tick(self) -> None:
        """Looks once for every funding that is to be looked for now. Raises what is in TRANSIENT_FAULTS."""
        while fundings := await self._store.take_absent_fundings(FUNDINGS_MAX, self._reclaim_s):
            async with asyncio.TaskGroup() as group:
                for intent_id, funding in fundings:
                    group.create_task(self._look(intent_id, funding))

    async def _look(self, intent_id: str, funding: Transfer) -> None:
        """An address that cannot be read or emptied keeps no other from it: it is looked at again later."""
        try:
            await self._reclaim(intent_id, funding)
        except NetworkFault as fault:
            log.warning("reclaim.failed", intent_id=intent_id, fault=repr(fault))
            await self._store.look_soon(intent_id, self._reclaim_s)

    async def _reclaim(self, intent_id: str, funding: Transfer) -> None:
        view = await self._network.address(funding.destination)
        if view.balance >= funding.units:
            log.error("funding.late", intent_id=intent_id)  # the settle time is too short for this network
            await self._store.look_soon(intent_id, self._reclaim_s)
            # Not the whole balance: a stranger's dust could make an amount that the network does not take.
            await self._network.send(Transfer(funding.destination, funding.source, funding.units))
            view = await self._network.address(funding.destination)
        applied = view.find(funding)
        if applied is None or view.balance >= funding.units or not view.agrees:
            return
        # That the address is empty proves nothing: on this network, anybody can take what lies there.
        returned = sum(each.units * count for each, count in view.counts.items() if each.destination == funding.source)
        if returned >= funding.units:
            await self._store.write_returned(intent_id, applied)
            RETURNED.inc()
        else:
            log.error("funding.taken", intent_id=intent_id, address=funding.destination)
