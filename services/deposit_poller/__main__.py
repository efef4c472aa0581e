"""`python -m services.deposit_poller`: make mixes and bring deposits in until SIGTERM."""

from functools import partial
from typing import Final

from services.deposit_poller.confirmations import Confirmations
from services.deposit_poller.list_scanner import ListScanner
from services.deposit_poller.orders import OrderHandler, OrdersConsumer
from services.deposit_poller.settings import PollerSettings
from services.deposit_poller.store.decisions import SweepDecisionStore
from services.deposit_poller.store.deposits import DepositStore
from services.deposit_poller.store.mixes import MixStore
from services.deposit_poller.store.sweeps import SweepStore
from services.deposit_poller.sweeps import Sweeper
from shared.database import postgres
from shared.domain.ids import CommandIds
from shared.ledger_client.client import LedgerClient
from shared.mixer.jobcoin import JobcoinNetwork
from shared.mixer.jobcoin_rows import Address
from shared.mixer.journal_reader import JournalReader
from shared.mixer.ledger import MixerLedger
from shared.mixer.service import MixerParts, run_mixer_service

APPLICATION: Final = "deposit_poller"


def wire(settings: PollerSettings, pool: postgres.Pool, network: JobcoinNetwork, client: LedgerClient) -> MixerParts:
    """The parts of a poller."""
    secrets = settings.ledger_secrets()
    ledger = MixerLedger(client, CommandIds(secrets.naming_key), pool)
    mixes, deposits = MixStore(pool, settings.mix_minimum), DepositStore(pool, settings.jobcoin_network)
    sweeper = Sweeper(network, ledger, SweepStore(pool), settings)
    confirmations = Confirmations(network, deposits, wake_sweeper=sweeper.wake)
    scanner = ListScanner(network, mixes, deposits, settings, confirmations)
    reader = JournalReader(SweepDecisionStore(pool), settings.journal_read_s, lambda _: sweeper.wake.set())
    handler = OrderHandler(network, ledger, mixes, Address(settings.house_address), scanner)
    consumer = OrdersConsumer(settings.amqp_url.get_secret_value(), secrets.accepted, APPLICATION, handler)
    return MixerParts(
        connections=consumer.connections,
        loops=[sweeper],
        others=[scanner.run, consumer.run, reader.run],
        missing=lambda: scanner.missing() | reader.missing(),
    )


def main() -> None:
    """Reads the environment and serves."""
    settings = PollerSettings.load_or_exit()
    run_mixer_service(APPLICATION, settings, partial(wire, settings))


if __name__ == "__main__":
    main()
