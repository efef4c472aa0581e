"""`python -m services.ledger_worker`."""

import asyncio

import structlog

from services.ledger_worker import metrics
from services.ledger_worker.bus import RabbitBus
from services.ledger_worker.clock import SystemClock
from services.ledger_worker.core.line import World
from services.ledger_worker.leases import LeaseKeeper
from services.ledger_worker.ports import Clock, Inbound, StoreFault
from services.ledger_worker.settings import WorkerSettings
from services.ledger_worker.store import PostgresStore
from services.ledger_worker.teller import Teller
from shared.durability import read_ledger_constants
from shared.ids import Partition
from shared.logs import configure_logs
from shared.run import run_service, serve_metrics, until_stop

log = structlog.get_logger()


async def serve(settings: WorkerSettings, stop: asyncio.Event) -> None:
    """Wires store, bus, teller and leases together and runs them until `stop`."""
    dsn = settings.database_url.get_secret_value()
    partitions = await read_ledger_constants(dsn, application=f"ledger_worker {settings.owner}")
    clock = SystemClock()
    store = PostgresStore(dsn, settings.owner, copy_operations_min=settings.copy_operations_min)

    # The bus is made before the teller that hears it.
    def deliver(inbound: Inbound) -> None:
        teller.deliver(inbound)

    def nudged(partition: Partition) -> None:
        teller.nudge(partition)

    def lost(partition: Partition) -> None:
        teller.channel_lost(partition)

    bus = RabbitBus(
        settings.amqp_url.get_secret_value(),
        settings.owner,
        deliver=deliver,
        nudged=nudged,
        lost=lost,
    )
    teller = Teller(
        owner=settings.owner,
        store=store,
        bus=bus,
        clock=clock,
        world=World(partitions),
        secret=settings.secret.get_secret_value(),
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
    metrics.OLDEST_UNDECIDED_SECONDS.set_function(teller.oldest_undecided_s)
    metrics.ACCOUNTS_CACHED.set_function(lambda: sum(len(line.accounts) for line in teller.lines.values()))
    runner = await serve_metrics(
        settings.host, settings.metrics_port, lambda: _missing(store, bus, keeper, clock, settings)
    )
    log.info("worker.started", owner=settings.owner, partitions=partitions)
    stopped = asyncio.Event()
    try:
        async with until_stop(stopped) as group:
            group.create_task(bus.run(), name="bus")
            group.create_task(teller.run(), name="teller")
            keeping = group.create_task(keeper.run(), name="leases")
            # Bus and teller still run while the leases are given back: what was decided is committed and acknowledged.
            await stop.wait()
            keeping.cancel()
            await asyncio.wait({keeping})
            await keeper.stop()
            stopped.set()
    finally:
        await runner.cleanup()
        await store.close()
    log.info("worker.stopped", owner=settings.owner)


async def _missing(
    store: PostgresStore,
    bus: RabbitBus,
    keeper: LeaseKeeper,
    clock: Clock,
    settings: WorkerSettings,
) -> dict[str, str]:
    missing: dict[str, str] = {}
    try:
        await store.assets()
    except StoreFault as fault:
        missing["database"] = str(fault)
    if not bus.is_ready():
        missing["broker"] = "not connected"
    if keeper.last_tick_s is None or clock.monotonic_s() - keeper.last_tick_s > 2.5 * settings.lease_renew_s:
        missing["leases"] = "the lease loop does not turn"
    return missing


def main() -> None:
    """Reads the environment and serves."""
    settings = WorkerSettings.load_or_exit()
    configure_logs("ledger_worker", settings.log_format, settings.log_level)
    run_service(lambda stop: serve(settings, stop))


if __name__ == "__main__":
    main()
