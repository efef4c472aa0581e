"""`python -m services.ledger_worker`: decides commands until SIGTERM."""

import asyncio

import structlog

from services.ledger_worker import metrics
from services.ledger_worker.broker.consumer import RabbitConsumer
from services.ledger_worker.broker.publisher import RabbitPublisher
from services.ledger_worker.clock import SystemClock
from services.ledger_worker.engine.commit_loop import CommitLoop
from services.ledger_worker.engine.intake import Inbox
from services.ledger_worker.engine.leases import LeaseKeeper
from services.ledger_worker.settings import WorkerSettings
from services.ledger_worker.store import PostgresStore
from shared.database.durability import check_database
from shared.runtime.logs import configure_logs
from shared.runtime.service import run_service, serve_metrics, until_stop

log = structlog.get_logger()


class Worker:
    """The parts of one worker, wired together. Nothing is connected yet."""

    def __init__(self, settings: WorkerSettings, partitions: int) -> None:
        self._clock = SystemClock()
        url = settings.amqp_url.get_secret_value()
        self.store = PostgresStore(
            settings.database_url.get_secret_value(),
            settings.owner,
            copy_operations_min=settings.copy_operations_min,
        )
        inbox = Inbox(partitions, settings.ledger_secrets().accepted, self._clock)
        self.publisher = RabbitPublisher(url, settings.owner)
        self.consumer = RabbitConsumer(url, settings.owner, inbox, self.publisher)
        self.loop = CommitLoop(
            self.store,
            inbox,
            self.consumer,
            self.publisher,
            self._clock,
            partitions=partitions,
            commands_max=settings.batch_commands_max,
            accounts_max=settings.cache_accounts_max,
            lease_ttl_s=settings.lease_ttl_s,
        )
        self.keeper = LeaseKeeper(
            settings.owner,
            self.store,
            self.loop,
            inbox,
            self._clock,
            partitions=partitions,
            ttl_s=settings.lease_ttl_s,
            renew_s=settings.lease_renew_s,
        )

    async def missing(self) -> dict[str, str]:
        """What is not ready: name of the part → the reason. Empty when the worker is ready."""
        missing: dict[str, str] = {}
        if (late := self.keeper.late()) is not None:
            missing["database"] = late
        if not self.loop.is_connected():
            missing["broker"] = "not connected"
        for partition, reason in self.keeper.waiting_for().items():
            missing[f"partition {partition}"] = reason
        return missing


async def serve(settings: WorkerSettings, stop: asyncio.Event) -> None:
    """Runs a worker until `stop`, then gives its partitions back."""
    dsn = settings.database_url.get_secret_value()
    application = f"ledger_worker {settings.owner}"
    partitions = await check_database(dsn, settings.ledger_secrets(), application=application)
    worker = Worker(settings, partitions)
    metrics.PARTITIONS.set(partitions)
    metrics.OLDEST_UNDECIDED_SECONDS.set_function(worker.loop.progress.oldest_undecided_s)
    metrics.ACCOUNTS_CACHED.set_function(worker.loop.accounts_cached)
    runner = await serve_metrics(settings.host, settings.metrics_port, worker.missing)
    log.info("worker.started", owner=settings.owner, partitions=partitions)
    stopped = asyncio.Event()
    try:
        async with until_stop(stopped) as group:
            group.create_task(worker.consumer.run(), name="consumer")
            group.create_task(worker.publisher.run(), name="publisher")
            group.create_task(worker.loop.run(), name="commit loop")
            group.create_task(worker.keeper.run(), name="leases")
            # All other tasks keep running meanwhile, so that what was decided is committed and acknowledged.
            await stop.wait()
            await worker.keeper.stop()
            stopped.set()
    finally:
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
