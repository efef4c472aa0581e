"""`python -m services.distributor`: pay out what mixes were credited until SIGTERM."""

import random
from functools import partial
from typing import Final

from services.distributor.events_consumer import EventsConsumer
from services.distributor.payer import Payer
from services.distributor.planner import Planner
from services.distributor.reader import JournalReader
from services.distributor.reclaimer import Reclaimer
from services.distributor.settings import DistributorSettings
from services.distributor.store.credits import CreditStore
from services.distributor.store.payouts import PayoutStore
from shared.database import postgres
from shared.domain.ids import CommandIds
from shared.ledger_client.client import LedgerClient
from shared.mixer.jobcoin import JobcoinNetwork
from shared.mixer.ledger import MixerLedger
from shared.mixer.service import MixerParts, run_mixer_service

APPLICATION: Final = "distributor"


def wire(
    settings: DistributorSettings, pool: postgres.Pool, network: JobcoinNetwork, client: LedgerClient
) -> MixerParts:
    """The parts of a distributor. The network is not part of its readiness: payouts wait while the network is away."""
    ledger = MixerLedger(client, CommandIds(settings.secret.get_secret_value()), pool)
    credits, payouts = CreditStore(pool), PayoutStore(pool)
    planner = Planner(ledger, credits, settings, random.SystemRandom())
    reader = JournalReader(credits, settings.journal_read_s, on_recorded=planner.wake)

    return MixerParts(
        consumer=EventsConsumer(
            settings.amqp_url.get_secret_value(), APPLICATION, client.partitions, on_mix=reader.wake
        ),
        loops=[planner, Payer(network, ledger, payouts, settings)],
        others=[reader, Reclaimer(network, payouts, settings.reclaim_s)],
    )


def main() -> None:
    """Reads the environment and serves."""
    settings = DistributorSettings.load_or_exit()
    run_mixer_service(APPLICATION, settings, partial(wire, settings))


if __name__ == "__main__":
    main()
