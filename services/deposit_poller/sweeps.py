"""Brings in what lies at deposit addresses: swept to the house, seen there in the network's list, credited."""

from dataclasses import replace

import structlog
from typing_extensions import override

from services.deposit_poller.core.sweeps import SWEEP, Sweep, SweepState
from services.deposit_poller.store.sweeps import SweepStore
from shared.domain.lifecycle import InvariantBroken
from shared.domain.money import AMOUNT_MINOR_MAX
from shared.mixer.claimed_rows import Leg
from shared.mixer.jobcoin import JobcoinNetwork
from shared.mixer.jobcoin_rows import AddressView, Transfer
from shared.mixer.ledger import MixerLedger
from shared.mixer.settings import MixerSettings
from shared.mixer.step_loop import ClaimDeadline
from shared.mixer.transfers import TransferLoop
from shared.runtime.fault_points import FaultPoint, fault_point

log = structlog.get_logger()

DISPUTED = "the network's list lacks transactions of this address that it had shown"


class Sweeper(TransferLoop[Sweep]):
    """Takes a planned sweep through its transfer to its credit. Nothing is credited that the house did not gain."""

    stuck = SweepState.STUCK
    fault_points = (
        FaultPoint.POLLER_AFTER_SWEEP_INTENT,
        FaultPoint.POLLER_AFTER_SWEEP_SENT,
        FaultPoint.POLLER_AFTER_SWEEP_SEEN,
    )

    def __init__(
        self, network: JobcoinNetwork, ledger: MixerLedger, sweeps: SweepStore, settings: MixerSettings
    ) -> None:
        super().__init__(network, ledger, sweeps, settings)
        self._sweeps = sweeps

    @override
    async def step(self, row: Sweep, deadline: ClaimDeadline) -> Sweep | None:
        match row.state:
            case SweepState.PLANNED:
                return await self._sweep(row, deadline)
            case SweepState.SENDING:
                return await self.read_end(row, SWEEP)
            case SweepState.SEEN:
                return await self._credit(row)
            case SweepState.CREDITED | SweepState.STUCK | SweepState.CANCELLED:
                return None

    @override
    def transfer(self, row: Sweep, leg: Leg) -> Transfer:
        # Exactly the sum of its deposits: the address may hold more by now.
        return Transfer(row.address, self._house, row.units)

    async def _sweep(self, sweep: Sweep, deadline: ClaimDeadline) -> Sweep | None:
        if await self._sweeps.is_disputed(sweep):
            return await self.fail(sweep, DISPUTED)
        view = await self._network.address(sweep.address)
        transfer = self.transfer(sweep, SWEEP)
        # A transfer that was taken for absent may have come late: then it is this sweep, and nothing more is sent.
        is_listed = view.find(transfer, await self._sweeps.taken_rows(transfer)) is not None
        if not is_listed and view.agrees and view.balance < sweep.units:
            return await self._coins_missing(sweep, view)
        return await self.send(sweep, SWEEP, deadline, is_listed=is_listed)

    async def _coins_missing(self, sweep: Sweep, view: AddressView) -> None:
        if view.received < sweep.units + await self._sweeps.swept_units(sweep):
            return await self.fail(sweep, "the network does not show the deposits at their address")
        return await self.stop(sweep, "coins of this address went elsewhere: it holds less than was deposited")

    async def _credit(self, sweep: Sweep) -> None:
        if sweep.credit is None:
            raise InvariantBroken(f"sweep {sweep.id} was seen without a credit")
        if sweep.credit > AMOUNT_MINOR_MAX:
            return await self.stop(sweep, "more than the ledger's greatest amount")
        if await self._sweeps.is_disputed(sweep):
            return await self.fail(sweep, DISPUTED)
        fault_point(FaultPoint.POLLER_BEFORE_CREDIT)
        credited = replace(sweep, state=SweepState.CREDITED, attempts=0)
        if sweep.credit:  # else the units wait as a rest of the address until they are one minor unit
            decision = await self._ledger.credit(sweep.mix, sweep.id, sweep.credit_attempt, sweep.credit)
            operation = await self.posted(sweep, "credit", decision)
            if operation is None:
                return None
            credited = replace(credited, credit_operation=operation)
        await self._store.move(sweep, credited)
        log.info("sweep.credited", sweep_id=sweep.id, mix_id=sweep.mix)
        return None
