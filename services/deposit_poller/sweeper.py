"""Brings a recorded deposit home: swept to the house, seen there in the list, credited in the ledger.

Each step is committed before the next begins, and each can be taken up by another process that finds it half done.
"""

import dataclasses

import structlog

from services.deposit_poller import metrics
from services.deposit_poller.core.deposits import Deposit, DepositState
from services.deposit_poller.settings import PollerSettings
from services.deposit_poller.store.deposits import AnotherUnderWay, DepositStore
from shared.faults import FaultPoint, fault_point
from shared.jobcoin import JobcoinNetwork, NetworkUnavailable, TransferRefused, TransferUnknown
from shared.jobcoin_rows import Address, AddressView, Sight, Transfer, numbered, row_id, sight_of
from shared.mixer_ledger import MixerLedger
from shared.money import AMOUNT_MINOR_MAX
from shared.work import Deadline, backoff_of_round_s

log = structlog.get_logger()


class Sweeper:
    """Works on one claimed deposit at a time; see `advance`."""

    def __init__(
        self,
        network: JobcoinNetwork,
        ledger: MixerLedger,
        deposits: DepositStore,
        settings: PollerSettings,
    ) -> None:
        self._network = network
        self._ledger = ledger
        self._deposits = deposits
        self._settings = settings
        self._house = Address(settings.house_address)

    async def advance(self, deposit: Deposit, deadline: Deadline) -> None:
        """Goes on until the deposit is credited or has to wait. Raises ClaimLost, or what is in db.TRANSIENT_FAULTS."""
        now: Deposit | None = deposit
        while now is not None:
            try:
                now = await self._step(now, deadline)
            except NetworkUnavailable as fault:
                log.warning("deposit.waits", deposit_id=deposit.id, fault=str(fault))
                await self._deposits.release(now, backoff_of_round_s(now.rounds), rounds=now.rounds)
                return

    async def _step(self, deposit: Deposit, deadline: Deadline) -> Deposit | None:
        match deposit.state:
            case DepositState.SEEN:
                return await self._send(deposit, deadline)
            case DepositState.SWEEPING:
                return await self._look(deposit, was_refused=False)
            case DepositState.SWEPT:
                return await self._credit(deposit)
            case DepositState.CREDITED | DepositState.STUCK:
                return None

    async def _send(self, deposit: Deposit, deadline: Deadline) -> Deposit | None:
        transfer = deposit.sweep_to(self._house)
        view = await self._network.address(transfer.source)
        if not self._is_listed(view, deposit):
            return await self._in_vain(deposit, "the deposit is no longer in the list")
        try:
            await self._deposits.open_sweep(deposit, transfer, self._settings.settle_s)
        except AnotherUnderWay:
            await self._deposits.release(deposit, backoff_of_round_s(0), rounds=deposit.rounds)
            return None
        fault_point(FaultPoint.POLLER_AFTER_SWEEP_INTENT)
        swept = dataclasses.replace(deposit, state=DepositState.SWEEPING)
        deadline.check()
        was_refused = await self._is_refused(deposit, transfer)
        fault_point(FaultPoint.POLLER_AFTER_SWEEP_SENT)
        return await self._look(swept, was_refused=was_refused)

    async def _is_refused(self, deposit: Deposit, transfer: Transfer) -> bool:
        """Sends; whether the network said no. What else it said, or did not, is read from the list."""
        try:
            await self._network.send(transfer)
        except TransferRefused as refusal:
            log.warning("sweep.refused", deposit_id=deposit.id, refusal=str(refusal))
            return True
        except TransferUnknown as fault:
            log.warning("sweep.unknown", deposit_id=deposit.id, fault=str(fault))
        return False

    async def _look(self, deposit: Deposit, *, was_refused: bool) -> Deposit | None:
        sweep = await self._deposits.sweep(deposit)
        if sweep is None:
            raise RuntimeError(f"deposit {deposit.id} is sweeping without an intent")
        transfer = deposit.sweep_to(self._house)
        view = await self._network.address(transfer.source)
        claimed = await self._deposits.claimed_rows(transfer.source)
        found = view.find(self._network.instance, transfer, claimed)
        match sight_of(view, found, is_settled=sweep.is_settled or was_refused):
            case Sight.SEEN:
                fault_point(FaultPoint.POLLER_AFTER_SWEEP_SEEN)
                await self._deposits.end_sweep(deposit, sweep, "seen", found, DepositState.SWEPT)
                metrics.UNKNOWN_RESOLVED.labels("seen").inc()
                log.info("deposit.swept", deposit_id=deposit.id, mix_id=deposit.mix)
                return dataclasses.replace(deposit, state=DepositState.SWEPT, rounds=0)
            case Sight.ABSENT:
                ended = "refused" if was_refused else "absent"
                rounds = deposit.rounds + 1
                await self._deposits.end_sweep(deposit, sweep, ended, None, DepositState.SEEN, rounds=rounds)
                metrics.UNKNOWN_RESOLVED.labels(ended).inc()
                log.warning("sweep.not_applied", deposit_id=deposit.id, ended=ended, rounds=rounds)
                unsent = dataclasses.replace(deposit, state=DepositState.SEEN, rounds=rounds)
                return await self._wait_or_stop(unsent, f"the sweep was {ended}")
            case Sight.UNDECIDED:
                wait_s = min(max(sweep.settles_in_s, 0.1), backoff_of_round_s(2))
                await self._deposits.release(deposit, wait_s, rounds=deposit.rounds)
                return None

    async def _credit(self, deposit: Deposit) -> Deposit | None:
        if deposit.minor == 0:
            await self._deposits.write_credited(deposit, None)
            return None
        if deposit.minor > AMOUNT_MINOR_MAX:
            return await self._stop(deposit, "more than the ledger's greatest amount")
        decided = await self._ledger.credit(deposit.mix, deposit.id, deposit.credit_attempt, deposit.minor)
        if decided is None:  # unknown: the same attempt is asked about again, for as long as it takes
            await self._deposits.release(deposit, backoff_of_round_s(deposit.rounds), rounds=deposit.rounds + 1)
            return None
        if decided.code is not None:
            await self._deposits.next_credit(deposit)
            return await self._in_vain(deposit, f"the credit was rejected: {decided.code}")
        await self._deposits.write_credited(deposit, decided.id)
        log.info("deposit.credited", deposit_id=deposit.id, mix_id=deposit.mix)
        return None

    def _is_listed(self, view: AddressView, deposit: Deposit) -> bool:
        instance = self._network.instance
        return any(row_id(instance, row, occurrence) == deposit.id for row, occurrence in numbered(view.rows))

    async def _in_vain(self, deposit: Deposit, reason: str) -> Deposit | None:
        return await self._wait_or_stop(dataclasses.replace(deposit, rounds=deposit.rounds + 1), reason)

    async def _wait_or_stop(self, deposit: Deposit, reason: str) -> Deposit | None:
        if deposit.rounds >= self._settings.rounds_max:
            return await self._stop(deposit, reason)
        log.warning("deposit.waits", deposit_id=deposit.id, rounds=deposit.rounds, reason=reason)
        await self._deposits.release(deposit, backoff_of_round_s(deposit.rounds), rounds=deposit.rounds)
        return None

    async def _stop(self, deposit: Deposit, reason: str) -> None:
        await self._deposits.move(deposit, DepositState.STUCK, reason=reason)
        metrics.STUCK.labels(deposit.state.value).inc()
        log.error("deposit.stuck", deposit_id=deposit.id, mix_id=deposit.mix, step=deposit.state.value, reason=reason)
