"""`python -m services.distributor`: pay what mixes were credited until SIGTERM."""

import asyncio
import random
from functools import partial
from typing import Final

import structlog

from services.distributor import metrics
from services.distributor.bus import EventBus
from services.distributor.core.payouts import Payout, PayoutState
from services.distributor.payer import Payer
from services.distributor.planner import Planner
from services.distributor.reader import JournalReader
from services.distributor.reclaimer import Reclaimer
from services.distributor.settings import DistributorSettings
from services.distributor.store.credits import Credit, CreditStore
from services.distributor.store.payouts import PayoutStore
from shared import db
from shared.ids import CommandIds
from shared.jobcoin import JobcoinNetwork
from shared.ledger_client import LedgerClient
from shared.logs import configure_logs
from shared.mixer_ledger import MixerLedger
from shared.mixer_service import serve
from shared.run import run_service, until_stop
from shared.work import WorkLoop

log = structlog.get_logger()

APPLICATION: Final = "distributor"
UPKEEP_S: Final = 5.0
DRAIN_S: Final = 5.0


class Distributor:
    """One distributor's parts, wired together."""

    def __init__(
        self, settings: DistributorSettings, pool: db.Pool, network: JobcoinNetwork, client: LedgerClient
    ) -> None:
        self.client = client
        self.credits = CreditStore(pool)
        self.payouts = PayoutStore(pool)
        ledger = MixerLedger(client, CommandIds(settings.secret.get_secret_value()), pool)
        planner = Planner(ledger, self.credits, settings, random.SystemRandom())
        payer = Payer(network, ledger, self.payouts, settings)
        claim_s = settings.claim_s
        self.planning = WorkLoop[Credit](
            "planning",
            claim=lambda credits_max: self.credits.claim(credits_max, claim_s),
            do=planner.advance,
            claim_s=claim_s,
            tick_s=1.0,
        )
        self.paying = WorkLoop[Payout](
            "paying",
            claim=lambda payouts_max: self.payouts.claim(payouts_max, claim_s),
            do=payer.advance,
            claim_s=claim_s,
        )
        self.reclaimer = Reclaimer(network, self.payouts, settings)
        self.reader = JournalReader(self.credits, settings.journal_read_s, self.planning.wake)
        url = settings.amqp_url.get_secret_value()
        self.bus = EventBus(url, APPLICATION, client.partitions, self.reader.wake)

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop`; what is half done then is taken up again from its rows."""
        stopped = asyncio.Event()
        async with until_stop(stopped) as group:
            group.create_task(self.client.run(), name="ledger client")
            group.create_task(self.bus.run(), name="events")
            group.create_task(self.reader.run(), name="reader")
            group.create_task(self.planning.run(), name="planning")
            group.create_task(self.paying.run(), name="paying")
            group.create_task(self.reclaimer.run(), name="reclaimer")
            group.create_task(self._keep_up(), name="upkeep")
            await stop.wait()
            await asyncio.gather(self.planning.drain(DRAIN_S), self.paying.drain(DRAIN_S))
            stopped.set()

    async def missing(self) -> dict[str, str]:
        """What is not ready, and why. Not the network: payouts wait for it, and it is the poller's to watch."""
        missing: dict[str, str] = {}
        if not (self.bus.is_ready() and self.client.is_ready()):
            missing["broker"] = "not connected"
        try:
            await self.credits.cursors()
        except db.TRANSIENT_FAULTS as fault:
            missing["database"] = repr(fault)
        return missing

    async def _keep_up(self) -> None:
        while True:
            try:
                counts, open_intents, oldest_due_s = await self.payouts.counts()
                for state in PayoutState:
                    metrics.PAYOUTS.labels(state.value).set(counts.get(state.value, 0))
                metrics.UNKNOWN_OPEN.set(open_intents)
                metrics.OLDEST_DUE_SECONDS.set(oldest_due_s)
            except db.TRANSIENT_FAULTS as fault:
                log.warning("upkeep.failed", fault=repr(fault))
            await asyncio.sleep(UPKEEP_S)


def main() -> None:
    """Reads the environment and serves."""
    settings = DistributorSettings.load_or_exit()
    configure_logs(APPLICATION, settings.log_format, settings.log_level)
    run_service(lambda stop: serve(settings, APPLICATION, partial(Distributor, settings), stop))


if __name__ == "__main__":
    main()
