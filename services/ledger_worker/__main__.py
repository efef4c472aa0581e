"""`python -m services.ledger_worker`."""

import asyncio

import structlog

from services.ledger_worker import metrics
from services.ledger_worker.bus import RabbitBus
from services.ledger_worker.clock import SystemClock
from services.ledger_worker.core.line import World
from services.ledger_worker.leases import LeaseKeeper
from services.ledger_worker.ports import Inbound, StoreFault
from services.ledger_worker.senders import Senders
from services.ledger_worker.settings import WorkerSettings
from services.ledger_worker.store import PostgresStore
from services.ledger_worker.teller import Teller
from shared.durability import read_ledger_constants
from shared.ids import Partition, subkey
from shared.logs import configure_logs
from shared.run import run_service, serve_metrics, until_stop
from shared.values import value

log = structlog.get_logger()

# A lease loop that has not turned for this many of its intervals is not ready.
LATE_TICKS_MAX = 2.5


@value
class Worker:
    """The parts of one worker, wired together."""

    settings: WorkerSettings
    clock: SystemClock
    store: PostgresStore
    senders: Senders
    bus: RabbitBus
    teller: Teller
    keeper: LeaseKeeper

    async def missing(self) -> dict[str, str]:
        """What is not ready, and why."""
        missing: dict[str, str] = {}
        try:
            await self.store.assets()
        except StoreFault as fault:
            missing["database"] = str(fault)
        if not self.bus.is_ready():
            missing["broker"] = "not connected"
        unheard = [lease.partition for lease in self.teller.leases() if not self.bus.consumes(lease.partition)]
        if unheard:
            missing["partitions"] = f"nothing is heard of {sorted(unheard)}"
        ticked = self.keeper.last_tick_s
        if ticked is None or self.clock.monotonic_s() - ticked > LATE_TICKS_MAX * self.settings.lease_renew_s:
            missing["leases"] = "the lease loop does not turn"
        return missing

    def accounts_cached(self) -> int:
        """Accounts in memory."""
        return sum(len(line.accounts) for line in self.teller.lines.values())


def wire(settings: WorkerSettings, partitions: int) -> Worker:
    """Makes the parts; nothing is connected yet."""
    clock = SystemClock()
    dsn, url = settings.database_url.get_secret_value(), settings.amqp_url.get_secret_value()
    store = PostgresStore(dsn, settings.owner, copy_operations_min=settings.copy_operations_min)

    # The bus is made before the teller that hears it.
    def deliver(inbound: Inbound) -> None:
        teller.deliver(inbound)

    def nudged(partition: Partition) -> None:
        teller.nudge(partition)

    def lost(partition: Partition) -> None:
        teller.channel_lost(partition)

    secret = settings.secret.get_secret_value()
    senders = Senders(subkey(secret, "direct"), deliver)
    bus = RabbitBus(url, settings.owner, senders, secret=secret, deliver=deliver, nudged=nudged, lost=lost)
    teller = Teller(
        owner=settings.owner,
        store=store,
        bus=bus,
        clock=clock,
        world=World(partitions),
        secret=secret,
        commands_max=settings.batch_commands_max,
        accounts_max=settings.cache_accounts_max,
        lease_ttl_s=settings.lease_ttl_s,
    )
    keeper = LeaseKeeper(
        owner=settings.owner,
        store=store,
        teller=teller,
        clock=clock,
        partitions=partitions,
        ttl_s=settings.lease_ttl_s,
        renew_s=settings.lease_renew_s,
    )
    return Worker(settings, clock, store, senders, bus, teller, keeper)


async def serve(settings: WorkerSettings, stop: asyncio.Event) -> None:
    """Runs a worker until `stop`, then gives its partitions back."""
    dsn = settings.database_url.get_secret_value()
    partitions = await read_ledger_constants(dsn, application=f"ledger_worker {settings.owner}")
    worker = wire(settings, partitions)
    metrics.OLDEST_UNDECIDED_SECONDS.set_function(worker.teller.oldest_undecided_s)
    metrics.ACCOUNTS_CACHED.set_function(worker.accounts_cached)
    runner = await serve_metrics(settings.host, settings.metrics_port, worker.missing, worker.senders.routes())
    worker.senders.serve_at(settings.host, runner.addresses[0][1])
    log.info("worker.started", owner=settings.owner, partitions=partitions)
    stopped = asyncio.Event()
    try:
        async with until_stop(stopped) as group:
            group.create_task(worker.bus.run(), name="bus")
            group.create_task(worker.teller.run(), name="teller")
            keeping = group.create_task(worker.keeper.run(), name="leases")
            # Bus and teller still run while the leases are given back: what was decided is committed and acknowledged.
            await stop.wait()
            keeping.cancel()
            await asyncio.wait({keeping})
            await worker.keeper.stop()
            stopped.set()
    finally:
        await worker.senders.close()
        await runner.cleanup()
        await worker.store.close()
    log.info("worker.stopped", owner=settings.owner)


def main() -> None:
    """Reads the environment and serves."""
    settings = WorkerSettings.load_or_exit()
    configure_logs("ledger_worker", settings.log_format, settings.log_level)
    run_service(lambda stop: serve(settings, stop))


if __name__ == "__main__":
    main()
