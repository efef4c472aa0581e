"""Puts one gateway together, serves it, and takes it apart again."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Final

import structlog
from aiohttp import web

from services.gateway import (
    account_changes,
    accounts,
    assets,
    docs,
    entries,
    health,
    mixes,
    operations,
    transactions,
    transfers,
)
from services.gateway.auth import Keychain
from services.gateway.context import Assets, Gateway, Ledger
from services.gateway.dispatch import Dispatcher
from services.gateway.metrics import Metrics
from services.gateway.openapi import document_bytes
from services.gateway.settings import GatewaySettings
from services.gateway.store.database import Database
from services.gateway.store.health import read_partitions
from services.gateway.web.cursors import Cursors
from services.gateway.web.server import Deadlines, GuardedServer
from shared import db
from shared.ids import CommandIds
from shared.ledger_client import LedgerClient
from shared.run import until_stop

log = structlog.get_logger()

NAME: Final = "gateway"
# Shorter than the grace that a stop has as a whole (shared.run.STOP_GRACE_S).
SHUTDOWN_S: Final = 8.0

ROUTES: Final = (
    *assets.ROUTES,
    *accounts.ROUTES,
    *account_changes.ROUTES,
    *entries.ROUTES,
    *transfers.ROUTES,
    *transactions.ROUTES,
    *operations.ROUTES,
    *mixes.ROUTES,
    *health.ROUTES,
    *docs.ROUTES,
)


class LedgerMissing(Exception):
    """The database holds no ledger: run `tellerline migrate` first."""


def assemble(settings: GatewaySettings, database: Database, ledger: Ledger) -> Gateway:
    """One gateway's parts, connected."""
    secret = settings.secret.get_secret_value()
    admin_key = None if settings.admin_key is None else settings.admin_key.get_secret_value()
    gateway = Gateway(
        settings=settings,
        database=database,
        ledger=ledger,
        ids=CommandIds(secret),
        keys=Keychain(
            database,
            admin_key,
            age_s_max=settings.key_age_s_max,
            rate_per_s_max=settings.rate_per_s_max,
            rate_burst_max=settings.rate_burst_max,
        ),
        assets=Assets(database),
        cursors=Cursors(secret),
        metrics=Metrics(),
        openapi=document_bytes(ROUTES),
    )
    gateway.metrics.watch(ledger)
    return gateway


@contextlib.asynccontextmanager
async def serving(gateway: Gateway) -> AsyncGenerator[str]:
    """Serves the gateway; yields its address as `host:port`. Leaving it answers what is in flight, then closes."""
    settings = gateway.settings
    dispatcher = Dispatcher(gateway, ROUTES)
    deadlines = Deadlines(settings.header_timeout_s, settings.idle_timeout_s, settings.write_timeout_s)
    server = GuardedServer(
        dispatcher.serve,
        troubled=dispatcher.troubled,
        deadlines=deadlines,
        connections_max=settings.connections_max,
    )
    runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port, backlog=1_024).start()
        host, port = runner.addresses[0][:2]
        yield f"{host}:{port}"
    finally:
        gateway.stopping.begin()
        await runner.cleanup()


async def run(settings: GatewaySettings, stop: asyncio.Event) -> None:
    """Runs a gateway until `stop` is set. Raises LedgerMissing, DatabaseUnavailable, or the fault of a task."""
    pool = await db.open_pool(
        settings.database_url.get_secret_value(),
        application=NAME,
        size_max=settings.pool_size_max,
    )
    async with pool:
        database = Database(pool)
        partitions = await read_partitions(database)
        if partitions is None:
            raise LedgerMissing
        client = LedgerClient(
            settings.amqp_url.get_secret_value(),
            partitions=partitions,
            secret=settings.secret.get_secret_value(),
            name=NAME,
        )
        gateway = assemble(settings, database, client)
        # The client ends after the server: whoever is still being answered needs it.
        served = asyncio.Event()
        async with until_stop(served) as group:
            group.create_task(client.run(), name="ledger client")
            group.create_task(gateway.keys.run(), name="keys")
            async with serving(gateway) as address:
                log.info("gateway.listening", url=f"http://{address}", partitions=partitions)
                await stop.wait()
            served.set()
