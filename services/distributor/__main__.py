"""`python -m services.distributor`: pay out what mixes were credited until SIGTERM."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from services.distributor.core.decisions import PayoutDecision
from services.distributor.credits import Planner, mix_events
from services.distributor.payouts import Payer, Reclaimer
from services.distributor.settings import DistributorSettings
from services.distributor.store.credits import CreditStore, FoundCredit
from services.distributor.store.payouts import PayoutStore
from shared.database import postgres
from shared.domain.ids import CommandIds
from shared.ledger_client.client import LedgerClient
from shared.mixer.jobcoin import JobcoinNetwork
from shared.mixer.journal_reader import JournalReader
from shared.mixer.ledger import MixerLedger
from shared.mixer.service import MixerParts, run_mixer_service

APPLICATION: Final = "distributor"


def wire(
    settings: DistributorSettings, pool: postgres.Pool, network: JobcoinNetwork, client: LedgerClient
) -> MixerParts:
    """The parts of a distributor. The network is not part of its readiness: payouts wait while the network is away."""
    ledger = MixerLedger(client, CommandIds(settings.ledger_secrets().naming_key), pool)
    credits, payouts = CreditStore(pool), PayoutStore(pool)
    planner = Planner(ledger, credits, settings)
    payer = Payer(network, ledger, payouts, settings)

    def found(_: Sequence[FoundCredit | PayoutDecision]) -> None:
        planner.wake.set()
        payer.wake.set()

    reader = JournalReader(credits, settings.journal_read_s, found)
    amqp_url = settings.amqp_url.get_secret_value()
    return MixerParts(
        connections=[mix_events(amqp_url, APPLICATION, client.partitions, wake_reader=reader.wake)],
        loops=[planner, payer],
        others=[reader.run, Reclaimer(network, payouts, settings.reclaim_s).run],
        missing=reader.missing,
    )


def main() -> None:
    """Reads the environment and serves."""
    settings = DistributorSettings.load_or_exit()
    run_mixer_service(APPLICATION, settings, partial(wire, settings))


if __name__ == "__main__":
    main()
