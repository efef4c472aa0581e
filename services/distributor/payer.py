"""Pays one increment: ledger hold → house to one-shot address → one-shot address to destination → capture.

Before anything is sent its intent is committed; what became of it is read from the network's list, never assumed. Each
step can be taken up by another process that finds it half done.
"""

import dataclasses

import structlog

from services.distributor import metrics
from services.distributor.core.payouts import FUND, PAY, Leg, Payout, PayoutState
from services.distributor.settings import DistributorSettings
from services.distributor.store.payouts import PayoutStore
from shared.faults import FaultPoint, fault_point
from shared.jobcoin import JobcoinNetwork, NetworkUnavailable, TransferRefused, TransferUnknown
from shared.jobcoin_rows import Address, Sight, sight_of
from shared.mixer_ledger import MixerLedger
from shared.work import Deadline, backoff_of_round_s

log = structlog.get_logger()


class Payer:
    """Works on one claimed payout at a time; see `advance`."""

    def __init__(
        self, network: JobcoinNetwork, ledger: MixerLedger, store: PayoutStore, settings: DistributorSettings
    ) -> None:
        self._network = network
        self._ledger = ledger
        self._store = store
        self._settings = settings
        self._house = Address(settings.house_address)

    async def advance(self, payout: Payout, deadline: Deadline) -> None:
        """Goes on until the payout is paid or has to wait. Raises ClaimLost, or what is in db.TRANSIENT_FAULTS."""
        now: Payout | None = payout
        while now is not None:
            try:
                now = await self._step(now, deadline)
            except NetworkUnavailable as fault:
                log.warning("payout.waits", payout_id=payout.id, fault=str(fault))
                await self._store.release(now, backoff_of_round_s(now.rounds), rounds=now.rounds)
                return

    async def _step(self, payout: Payout, deadline: Deadline) -> Payout | None:
        match payout.state:
            case PayoutState.PLANNED:
                return await self._hold(payout)
            case PayoutState.HELD:
                return await self._send(payout, FUND, deadline)
            case PayoutState.FUNDING:
                return await self._look(payout, FUND, was_refused=False)
            case PayoutState.FUNDED:
                return await self._send(payout, PAY, deadline)
            case PayoutState.SENDING:
                return await self._look(payout, PAY, was_refused=False)
            case PayoutState.SENT:
                return await self._capture(payout)
            case PayoutState.PAID | PayoutState.STUCK:
                return None

    async def _hold(self, payout: Payout) -> Payout | None:
        decided = await self._ledger.hold(payout.mix, payout.id, payout.hold_attempt, payout.amount)
        if decided is None:
            return await self._ask_again(payout)
        if decided.code is not None:
            await self._store.next_hold(payout)
            return await self._in_vain(payout, f"the hold was rejected: {decided.code}")
        fault_point(FaultPoint.DISTRIBUTOR_AFTER_HOLD)
        hold = self._ledger.hold_id(payout.id, payout.hold_attempt)
        await self._store.move(payout, PayoutState.HELD, hold=hold)
        return dataclasses.replace(payout, state=PayoutState.HELD, hold=hold, rounds=0)

    async def _send(self, payout: Payout, leg: Leg, deadline: Deadline) -> Payout | None:
        address = await self._store.open_intent(payout, leg, self._house, self._settings.settle_s)
        fault_point(FaultPoint.DISTRIBUTOR_AFTER_INTENT)
        under_way = dataclasses.replace(payout, state=leg.under_way, address=address)
        deadline.check()
        was_refused = False
        try:
            await self._network.send(under_way.transfer(leg, self._house))
        except TransferRefused as refusal:
            was_refused = True
            log.warning("transfer.refused", payout_id=payout.id, leg=leg.name, refusal=str(refusal))
        except TransferUnknown as fault:
            log.warning("transfer.unknown", payout_id=payout.id, leg=leg.name, fault=str(fault))
        fault_point(FaultPoint.DISTRIBUTOR_AFTER_SEND)
        return await self._look(under_way, leg, was_refused=was_refused)

    async def _look(self, payout: Payout, leg: Leg, *, was_refused: bool) -> Payout | None:
        intent = await self._store.intent(payout, leg)
        if intent is None:
            raise RuntimeError(f"payout {payout.id} is {payout.state} without an intent")
        transfer = payout.transfer(leg, self._house)
        # Both legs touch the one-shot address, and hardly anything else does.
        view = await self._network.address(transfer.destination if leg is FUND else transfer.source)
        found = view.find(self._network.instance, transfer)
        match sight_of(view, found, is_settled=intent.is_settled or was_refused):
            case Sight.SEEN:
                fault_point(FaultPoint.DISTRIBUTOR_AFTER_SEEN)
                await self._store.end_intent(payout, intent, "seen", found, leg.after)
                metrics.UNKNOWN_RESOLVED.labels(leg.name, "seen").inc()
                return dataclasses.replace(payout, state=leg.after, rounds=0)
            case Sight.ABSENT:
                ended, rounds = "refused" if was_refused else "absent", payout.rounds + 1
                await self._store.end_intent(payout, intent, ended, None, leg.before, rounds=rounds)
                metrics.UNKNOWN_RESOLVED.labels(leg.name, ended).inc()
                unsent = dataclasses.replace(payout, state=leg.before, rounds=rounds)
                return await self._wait_or_stop(unsent, f"the transfer ({leg.name}) was {ended}")
            case Sight.UNDECIDED:
                wait_s = min(max(intent.settles_in_s, 0.1), backoff_of_round_s(2))
                await self._store.release(payout, wait_s, rounds=payout.rounds)
                return None

    async def _capture(self, payout: Payout) -> Payout | None:
        if payout.hold is None:
            raise RuntimeError(f"payout {payout.id} was sent without a hold")
        decided = await self._ledger.capture(payout.mix, payout.id, payout.capture_attempt, payout.hold)
        if decided is None:
            return await self._ask_again(payout)
        if decided.code is not None:
            await self._store.next_capture(payout)
            return await self._in_vain(payout, f"the capture was rejected: {decided.code}")
        await self._store.move(payout, PayoutState.PAID)
        log.info("payout.paid", payout_id=payout.id)
        return None

    async def _ask_again(self, payout: Payout) -> None:
        """Unknown: the same attempt is asked about again, for as long as it takes."""
        await self._store.release(payout, backoff_of_round_s(payout.rounds), rounds=payout.rounds + 1)

    async def _in_vain(self, payout: Payout, reason: str) -> Payout | None:
        return await self._wait_or_stop(dataclasses.replace(payout, rounds=payout.rounds + 1), reason)

    async def _wait_or_stop(self, payout: Payout, reason: str) -> Payout | None:
        if payout.rounds >= self._settings.rounds_max:
            await self._store.move(payout, PayoutState.STUCK, reason=reason)
            metrics.STUCK.labels(payout.state.value).inc()
            log.error("payout.stuck", payout_id=payout.id, step=payout.state.value, reason=reason)
            return None
        log.warning("payout.waits", payout_id=payout.id, rounds=payout.rounds, reason=reason)
        await self._store.release(payout, backoff_of_round_s(payout.rounds), rounds=payout.rounds)
        return None
