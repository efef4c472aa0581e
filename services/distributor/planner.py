"""Takes the fee of a credit and plans its increments."""

import random

import structlog

from services.distributor import metrics
from services.distributor.core.plan import fee_of, plan
from services.distributor.settings import DistributorSettings
from services.distributor.store.credits import Credit, CreditStore
from shared.mixer_ledger import MixerLedger
from shared.work import Deadline, backoff_of_round_s

log = structlog.get_logger()


class RandomLots:
    """core.plan.Lots from a generator of random numbers."""

    def __init__(self, source: random.Random) -> None:
        self._source = source

    def between(self, low: int, high: int) -> int:
        """See core.plan.Lots."""
        return self._source.randint(low, high)


class Planner:
    """Works on one claimed credit at a time."""

    def __init__(
        self, ledger: MixerLedger, store: CreditStore, settings: DistributorSettings, source: random.Random
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._settings = settings
        self._lots = RandomLots(source)

    async def advance(self, credit: Credit, _: Deadline) -> None:
        """Fee, then plan. Raises ClaimLost, or what is in db.TRANSIENT_FAULTS."""
        fee = fee_of(credit.amount, credit.fee_ppm)
        if fee:
            decided = await self._ledger.fee(credit.mix, credit.id, credit.fee_attempt, fee)
            if decided is None:  # unknown: the same attempt is asked about again, for as long as it takes
                await self._store.release(credit, backoff_of_round_s(credit.rounds), rounds=credit.rounds + 1)
                return
            if decided.code is not None:
                await self._in_vain(credit, f"the fee was rejected: {decided.code}")
                return
        increments = plan(
            credit.amount - fee, credit.destinations, credit.delay_ms_min, credit.delay_ms_max, self._lots
        )
        await self._store.write_plan(credit, fee, increments)
        log.info("credit.planned", credit_id=credit.id, mix_id=credit.mix, payouts=len(increments))

    async def _in_vain(self, credit: Credit, reason: str) -> None:
        await self._store.next_fee(credit)
        if credit.rounds + 1 >= self._settings.rounds_max:
            await self._store.write_stuck(credit, reason)
            metrics.STUCK.labels("fee").inc()
            log.error("credit.stuck", credit_id=credit.id, mix_id=credit.mix, reason=reason)
            return
        log.warning("credit.waits", credit_id=credit.id, rounds=credit.rounds + 1, reason=reason)
        await self._store.release(credit, backoff_of_round_s(credit.rounds), rounds=credit.rounds + 1)
