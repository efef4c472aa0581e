"""Sends back fundings that came too late: they were taken for absent, and were applied after all.

The one-shot address of such a funding belongs to no payout any more, so the coins there are the house's. To send them
back needs no intent: both addresses are ours, and the network's check of the balance lets the coins be sent only once.
"""

import asyncio
from typing import Final

import structlog

from services.distributor import metrics
from services.distributor.store.payouts import PayoutStore
from shared.database.postgres import TRANSIENT_FAULTS
from shared.mixer.jobcoin import JobcoinNetwork, NetworkFault
from shared.mixer.jobcoin_rows import Transfer

log = structlog.get_logger()

INTENTS_MAX: Final = 100


class Reclaimer:
    """Looks at the one-shot addresses of fundings that were taken for absent. Several copies may do so."""

    def __init__(self, network: JobcoinNetwork, store: PayoutStore, reclaim_s: float) -> None:
        self._network = network
        self._store = store
        self._reclaim_s = reclaim_s

    async def run(self) -> None:
        """Looks every `reclaim_s` until cancelled."""
        while True:
            try:
                for intent_id, funding in await self._store.absent_fundings(INTENTS_MAX):
                    await self._reclaim(intent_id, funding)
            except (NetworkFault, *TRANSIENT_FAULTS) as fault:
                log.warning("reclaim.interrupted", fault=repr(fault))
            await asyncio.sleep(self._reclaim_s)

    async def _reclaim(self, intent_id: str, funding: Transfer) -> None:
        view = await self._network.address(funding.destination)
        applied = view.find(self._network.instance, funding)
        if applied is None or not view.agrees:
            return
        if view.balance:
            await self._network.send(Transfer(funding.destination, funding.source, view.balance))
            view = await self._network.address(funding.destination)
        if view.balance == 0:
            await self._store.write_returned(intent_id, applied)
            metrics.RETURNED.inc()
            log.error("funding.late", intent_id=intent_id)  # the settle time is too short for this network
