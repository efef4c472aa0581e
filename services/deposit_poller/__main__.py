"""`python -m services.deposit_poller`: make mixes and bring deposits in until SIGTERM."""

from functools import partial
from typing import Final

from services.deposit_poller.deposits import DepositScanner, Sweeper
from services.deposit_poller.orders import OrderHandler, OrdersConsumer
from services.deposit_poller.settings import PollerSettings
from services.deposit_poller.store import DepositStore, MixStore
from shared.database import postgres
from shared.domain.ids import CommandIds
from shared.ledger_client.client import LedgerClient
from shared.mixer.jobcoin import JobcoinNetwork
from shared.mixer.jobcoin_rows import Address
from shared.mixer.ledger import MixerLedger
from shared.mixer.service import MixerParts, run_mixer_service

APPLICATION: Final = "deposit_poller"


def wire(settings: PollerSettings, pool: postgres.Pool, network: JobcoinNetwork, client: LedgerClient) -> MixerParts:
    """The parts of a poller."""
    secrets = settings.ledger_secrets()
    ledger = MixerLedger(client, CommandIds(secrets.naming_key), pool)
    mixes, deposits = MixStore(pool), DepositStore(pool, network.instance)
    sweeper = Sweeper(network, ledger, deposits, settings)
    scanner = DepositScanner(network, mixes, deposits, settings, wake_sweeper=sweeper.wake)
    handler = OrderHandler(network, ledger, mixes, Address(settings.house_address), scanner.wake)
    consumer = OrdersConsumer(settings.amqp_url.get_secret_value(), secrets.accepted, APPLICATION, handler)
    return MixerParts(
        connections=consumer.connections,
        loops=[sweeper],
        others=[scanner.run, consumer.run],
        missing=scanner.missing,
    )


def main() -> None:
    """Reads the environment and serves."""
    settings = PollerSettings.load_or_exit()
    run_mixer_service(APPLICATION, settings, partial(wire, settings))


if __name__ == "__main__":
    main()
