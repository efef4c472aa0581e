"""Takes the fee of a credit and plans its payouts."""

from dataclasses import replace

import structlog
from typing_extensions import override

from services.distributor.core.credits import CreditState, MixCredit
from services.distributor.core.plan import RandomSource, fee_of, plan
from services.distributor.store.credits import CreditStore
from shared.mixer.ledger import MixerLedger
from shared.mixer.settings import MixerSettings
from shared.mixer.step_loop import ClaimDeadline, StepLoop

log = structlog.get_logger()


class Planner(StepLoop[MixCredit]):
    """Works on one claimed credit at a time."""

    def __init__(
        self, ledger: MixerLedger, credits: CreditStore, settings: MixerSettings, random_source: RandomSource
    ) -> None:
        super().__init__(credits, CreditState.STUCK, settings)
        self._ledger = ledger
        self._credits = credits
        self._random_source = random_source

    @override
    async def step(self, row: MixCredit, deadline: ClaimDeadline) -> None:
        terms = await self._credits.terms(row)
        fee = fee_of(row.amount, terms.fee_ppm)
        if fee:
            decision = await self._ledger.fee(row.mix, row.id, row.fee_attempt, fee)
            if not await self.is_posted(row, "fee", decision):
                return
        payouts = plan(row.amount - fee, terms, self._random_source)
        await self._credits.write_plan(row, replace(row, state=CreditState.PLANNED, fee=fee, attempts=0), payouts)
        log.info("credit.planned", credit_id=row.id, mix_id=row.mix, payouts=len(payouts))
