"""`python -m services.deposit_poller`: make mixes and bring deposits home until SIGTERM."""

import asyncio
from functools import partial
from typing import Final

import structlog

from services.deposit_poller import metrics
from services.deposit_poller.bus import OrderBus
from services.deposit_poller.core.deposits import Deposit, DepositState
from services.deposit_poller.follower import Follower
from services.deposit_poller.orders import OrderDesk, OrderUndecided
from services.deposit_poller.settings import PollerSettings
from services.deposit_poller.store.deposits import DepositStore
from services.deposit_poller.store.mixes import MixStore
from services.deposit_poller.sweeper import Sweeper
from shared import db
from shared.ids import CommandIds
from shared.jobcoin import JobcoinNetwork, NetworkUnavailable
from shared.jobcoin_rows import Address
from shared.ledger_client import LedgerClient
from shared.logs import configure_logs
from shared.mixer_ledger import MixerLedger
from shared.mixer_service import serve
from shared.run import run_service, until_stop
from shared.work import WorkLoop

log = structlog.get_logger()

APPLICATION: Final = "deposit_poller"
UPKEEP_S: Final = 5.0
DRAIN_S: Final = 5.0


class Poller:
    """One poller's parts, wired together."""

    def __init__(self, settings: PollerSettings, pool: db.Pool, network: JobcoinNetwork, client: LedgerClient) -> None:
        url, secret = settings.amqp_url.get_secret_value(), settings.secret.get_secret_value()
        self.pool = pool
        self.client = client
        self.mixes = MixStore(pool)
        self.deposits = DepositStore(pool, network.instance)
        ledger = MixerLedger(client, CommandIds(secret), pool)
        sweeper = Sweeper(network, ledger, self.deposits, settings)
        claim_s = settings.claim_s
        self.sweeping = WorkLoop[Deposit](
            "sweeping",
            claim=lambda deposits_max: self.deposits.claim(deposits_max, claim_s),
            do=sweeper.advance,
            claim_s=claim_s,
        )
        self.follower = Follower(network, self.mixes, self.deposits, settings, self.sweeping.wake)
        self.desk = OrderDesk(network, ledger, self.mixes, Address(settings.house_address), self.follower.wake)
        later = (NetworkUnavailable, OrderUndecided, *db.TRANSIENT_FAULTS)
        self.bus = OrderBus(url, secret, APPLICATION, decide=self.desk.decide, later=later)
        metrics.POLL_LAG_SECONDS.set_function(self.follower.lag_s)

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop`; what is half done then is taken up again from its rows."""
        stopped = asyncio.Event()
        async with until_stop(stopped) as group:
            group.create_task(self.client.run(), name="ledger client")
            group.create_task(self.bus.run(), name="orders")
            group.create_task(self.follower.run(), name="follower")
            group.create_task(self.sweeping.run(), name="sweeping")
            group.create_task(self._keep_up(), name="upkeep")
            await stop.wait()
            await self.sweeping.drain(DRAIN_S)
            stopped.set()

    async def missing(self) -> dict[str, str]:
        """What is not ready, and why."""
        missing: dict[str, str] = {}
        if not (self.bus.is_ready() and self.client.is_ready()):
            missing["broker"] = "not connected"
        try:
            await self.deposits.cursor()
        except db.TRANSIENT_FAULTS as fault:
            missing["database"] = repr(fault)
        if self.follower.is_late():
            missing["network"] = f"the list was last read {self.follower.lag_s():.0f} s ago"
        return missing

    async def _keep_up(self) -> None:
        """The gauges."""
        while True:
            try:
                counts, open_sweeps = await self.deposits.counts()
                for state in DepositState:
                    metrics.DEPOSITS.labels(state.value).set(counts.get(state.value, 0))
                metrics.UNKNOWN_OPEN.set(open_sweeps)
            except db.TRANSIENT_FAULTS as fault:
                log.warning("upkeep.failed", fault=repr(fault))
            await asyncio.sleep(UPKEEP_S)


def main() -> None:
    """Reads the environment and serves."""
    settings = PollerSettings.load_or_exit()
    configure_logs(APPLICATION, settings.log_format, settings.log_level)
    run_service(lambda stop: serve(settings, APPLICATION, partial(Poller, settings), stop))


if __name__ == "__main__":
    main()
