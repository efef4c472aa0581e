"""Credits of mixes: found in the journal, and planned into payouts.

Events only say when to look into the journal; the cursors say where to begin.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import structlog
from prometheus_client import Counter
from typing_extensions import override

from services.distributor.core.credits import CreditState, MixCredit, fee_of, plan
from services.distributor.settings import DistributorSettings
from services.distributor.store.credits import CreditStore
from shared.broker.channels import Channel, Connection, consume_exclusive_queue
from shared.broker.connection import ManagedConnection
from shared.broker.declare import declare_exchange
from shared.messages import topology
from shared.mixer.ledger import MixerLedger
from shared.mixer.step_loop import ClaimDeadline, StepLoop

log = structlog.get_logger()

NUDGES = Counter("distributor_nudges", "Events about mixes")
EVENTS_MAX: Final = 100
# How an account of a mix begins in an event. Looking for it is cheaper than parsing all events of a busy ledger.
MIX_ACCOUNT: Final = b'"mix:'


def mix_events(url: str, name: str, partitions: int, *, wake_reader: asyncio.Event) -> ManagedConnection:
    """Sets `wake_reader` after events about mixes.

    It may miss some: the journal is read again without an event, too.
    """

    def receive(body: bytes) -> None:
        if MIX_ACCOUNT in body:
            NUDGES.inc()
            wake_reader.set()

    async def opened(connection: Connection) -> Sequence[Channel]:
        channel, queue = await consume_exclusive_queue(connection, receive, length_max=EVENTS_MAX)
        await declare_exchange(channel, topology.EVENTS)
        for key in topology.PARTITION_KEYS[:partitions]:
            await channel.queue_bind(queue, topology.EVENTS, key)
        wake_reader.set()  # there may have been events while it was not connected
        return [channel]

    return ManagedConnection(url, name=f"{name}.events", opened=opened)


class Planner(StepLoop[MixCredit]):
    """Takes the fee of a claimed credit and plans its payouts."""

    stuck = CreditState.STUCK

    def __init__(self, ledger: MixerLedger, credits: CreditStore, settings: DistributorSettings) -> None:
        super().__init__(ledger, credits, settings)
        self._credits = credits
        self._payout_min = settings.payout_min_minor

    @override
    async def step(self, row: MixCredit, deadline: ClaimDeadline) -> None:
        terms = await self._credits.terms(row)
        fee = fee_of(row.amount, terms.fee_ppm)
        if fee:
            decision = await self._ledger.fee(row.mix, row.id, row.fee_attempt, fee)
            if await self.posted(row, "fee", decision) is None:
                return
        payouts = plan(row.amount - fee, terms, self._payout_min, row.seed)
        await self._credits.write_plan(row, replace(row, state=CreditState.PLANNED, fee=fee, attempts=0), payouts)
        log.info("credit.planned", credit_id=row.id, mix_id=row.mix, payouts=len(payouts))
