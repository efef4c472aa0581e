"""Brings home what came too late: a funding that was taken for absent, and was applied after all.

Its one-shot address belongs to no payout any more, so what lies there is the house's. Sending it back needs no intent:
both ends are ours, and the network lets what lies there be sent once.
"""

import asyncio
from typing import Final

import structlog

from services.distributor import metrics
from services.distributor.settings import DistributorSettings
from services.distributor.store.payouts import PayoutStore
from shared.db import TRANSIENT_FAULTS
from shared.jobcoin import JobcoinNetwork, NetworkFault
from shared.jobcoin_rows import Transfer

log = structlog.get_logger()

INTENTS_MAX: Final = 100


class Reclaimer:
    """Looks at the addresses of fundings that were given up. Several copies may do so."""

    def __init__(self, network: JobcoinNetwork, store: PayoutStore, settings: DistributorSettings) -> None:
        self._network = network
        self._store = store
        self._reclaim_s = settings.reclaim_s

    async def run(self) -> None:
        """Looks again and again until cancelled."""
        while True:
            try:
                for intent, funding in await self._store.given_up(INTENTS_MAX):
                    await self._reclaim(intent, funding)
            except (NetworkFault, *TRANSIENT_FAULTS) as fault:
                log.warning("reclaim.interrupted", fault=repr(fault))
            await asyncio.sleep(self._reclaim_s)

    async def _reclaim(self, intent: str, funding: Transfer) -> None:
        view = await self._network.address(funding.destination)
        applied = view.find(self._network.instance, funding)
        if applied is None or not view.agrees:
            return
        if view.balance:
            await self._network.send(Transfer(funding.destination, funding.source, view.balance))
            view = await self._network.address(funding.destination)
        if view.balance == 0:
            await self._store.write_returned(intent, applied)
            metrics.RETURNED.inc()
            log.error("funding.late", intent_id=intent)  # the settle time is too short for this network
