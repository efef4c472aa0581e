"""What the mixer's two services have in common: settings, and the way from them to a running service."""

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog
from pydantic import Field

from shared import db
from shared.durability import read_ledger_constants
from shared.jobcoin import JobcoinNetwork
from shared.ledger_client import LedgerClient
from shared.run import serve_metrics
from shared.settings import LedgerSettings

log = structlog.get_logger()


class MixerSettings(LedgerSettings):
    """Where the network is, and how patiently it is asked."""

    jobcoin_url: str = Field(pattern=r"^https?://.+/.+$")
    house_address: str = Field(default="tellerline-house", pattern=r"^[A-Za-z0-9_-]{1,128}$")
    network_timeout_s: float = Field(default=5.0, gt=0)
    # An address of ours has few transactions.
    answer_bytes_max: int = Field(default=1024 * 1024, gt=0)
    # Longer than the time-out plus the network's worst delay: only after it does absence from the list prove anything.
    settle_s: float = Field(default=15.0, gt=0)
    rounds_max: int = Field(default=8, ge=1)
    claim_s: float = Field(default=30.0, gt=0)


class MixerService(Protocol):
    """A service's parts, wired together."""

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop`; what is half done then is taken up again from its rows."""
        ...

    async def missing(self) -> dict[str, str]:
        """What is not ready, and why."""
        ...


async def serve(
    settings: MixerSettings,
    application: str,
    wire: Callable[[db.Pool, JobcoinNetwork, LedgerClient], MixerService],
    stop: asyncio.Event,
) -> None:
    """Connects to database, broker and network, wires the service, then runs it until `stop`."""
    dsn = settings.database_url.get_secret_value()
    partitions = await read_ledger_constants(dsn, application=application)
    client = LedgerClient(
        settings.amqp_url.get_secret_value(),
        partitions=partitions,
        secret=settings.secret.get_secret_value(),
        name=application,
    )
    network = JobcoinNetwork(
        settings.jobcoin_url, timeout_s=settings.network_timeout_s, bytes_max=settings.answer_bytes_max
    )
    pool = await db.open_pool(dsn, application=application)
    try:
        async with network:
            service = wire(pool, network, client)
            runner = await serve_metrics(settings.host, settings.metrics_port, service.missing)
            log.info("service.started", service=application, instance=network.instance, house=settings.house_address)
            try:
                await service.run(stop)
            finally:
                await runner.cleanup()
    finally:
        pool.terminate()
    log.info("service.stopped", service=application)
