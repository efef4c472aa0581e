"""Puts one gateway together, serves it, and takes it apart again."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from services.gateway.api import (
    accounts,
    assets,
    dead_letters,
    docs,
    entries,
    health,
    mixes,
    operations,
    operator,
    payouts,
    sweeps,
    transactions,
    transfers,
)
from services.gateway.api.openapi import document_bytes
from services.gateway.http.admin_key import follow_admin_key
from services.gateway.http.auth import Keychain, KeyLimits
from services.gateway.http.cursors import Cursors
from services.gateway.http.dispatch import Dispatcher
from services.gateway.http.listener import Listener
from services.gateway.http.request import ServerParts
from services.gateway.http.server import Deadlines, GuardedServer
from services.gateway.http.sources import parse_networks
from services.gateway.settings import GatewaySettings
from services.gateway.store.database import SESSION, Database
from services.gateway.store.dead_letters import DeadLetterQueue
from services.gateway.store.health import read_fingerprints, read_partitions
from services.gateway.store.shares import Shares
from services.gateway.usecases.state import AppState
from shared.database import postgres
from shared.domain.ids import CommandIds
from shared.ledger_client.client import LedgerClient
from shared.runtime.service import raise_descriptor_limit, serve_metrics, until_stop

log = structlog.get_logger()

NAME: Final = "gateway"
# Open files beside the connections of clients and those to PostgreSQL: listener, broker, log, modules, /proc.
DESCRIPTORS_KEPT: Final = 64
# For answering the requests in flight at a stop; shorter than the time that the whole stop may take.
SHUTDOWN_S: Final = 8.0
# How long a gateway that starts waits for the broker before it listens.
CONNECT_S_MAX: Final = 5.0
# For idle connections at a stop: a client that uses one within this time gets an answer that says `Connection: close`.
IDLE_GRACE_S: Final = 1.0
# Connections to PostgreSQL for look-ups of keys, notes of their use, and readiness.
RESERVED_SIZE: Final = 3
# Of the other connections, those that only writes use.
WRITE_CONNECTIONS: Final = 2

ROUTES: Final = (
    *assets.ROUTES.routes,
    *accounts.ROUTES.routes,
    *entries.ROUTES.routes,
    *transfers.ROUTES.routes,
    *transactions.ROUTES.routes,
    *operations.ROUTES.routes,
    *mixes.ROUTES.routes,
    *operator.ROUTES.routes,
    *dead_letters.ROUTES.routes,
    *payouts.ROUTES.routes,
    *sweeps.ROUTES.routes,
    *health.ROUTES.routes,
    *docs.ROUTES.routes,
)


class LedgerMissing(Exception):
    """The database holds no ledger: run `tellerline migrate` first."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of one gateway."""

    settings: GatewaySettings
    state: AppState
    server: ServerParts


def admin_key_of(settings: GatewaySettings) -> str | None:
    """The admin key that the gateway starts with."""
    return None if settings.admin_key is None else settings.admin_key.get_secret_value()


def assemble(settings: GatewaySettings, database: Database, reserved: Database, ledger: LedgerClient) -> Gateway:
    """Makes the parts of a gateway. `reserved`: the connections for keys and readiness."""
    secrets = settings.ledger_secrets()
    limits = KeyLimits(
        age_s_max=settings.key_age_s_max,
        rate_per_s_max=settings.rate_per_s_max,
        rate_burst_max=settings.rate_burst_max,
        failures_per_s_max=settings.failures_per_s_max,
        failures_burst_max=settings.failures_burst_max,
    )
    requests = Shares("requests", settings.requests_in_flight_max, settings.requests_in_flight_max // 2)
    server = ServerParts(
        Keychain(reserved, admin_key_of(settings), limits, requests),
        Cursors(*secrets.accepted),
        document_bytes(ROUTES),
        settings.body_timeout_s,
        requests,
        Shares("bodies", settings.bodies_bytes_max, settings.bodies_bytes_max // 2),
        parse_networks(settings.trusted_balancers),
    )
    letters = DeadLetterQueue(settings.amqp_url.get_secret_value())
    return Gateway(settings, AppState(database, reserved, ledger, CommandIds(secrets.naming_key), letters), server)


def connections_allowed(settings: GatewaySettings) -> int:
    """How many connections of clients: `connections_max`, or fewer where the process may open too few files.

    Beyond the limit of the system a connection is cut without a word; beyond ours it gets 503, and is counted.
    """
    return max(1, min(settings.connections_max, raise_descriptor_limit() - settings.pool_size_max - DESCRIPTORS_KEPT))


async def missing(state: AppState) -> dict[str, str]:
    """What of the gateway is not ready, and why."""
    return health.missing_of(state, await state.dependencies.found())


@contextlib.asynccontextmanager
async def serving(gateway: Gateway) -> AsyncGenerator[str]:
    """Serves the gateway; yields its address as `host:port`. Leaving it answers what is in flight, then closes."""
    settings = gateway.settings
    dispatcher = Dispatcher(gateway.state, gateway.server, ROUTES)
    server = GuardedServer(
        dispatcher.serve,
        serve_unreadable=dispatcher.serve_unreadable,
        refuse_connection=dispatcher.refuse_connection,
        deadlines=Deadlines(settings.header_timeout_s, settings.idle_timeout_s, settings.write_timeout_s),
        connections_max=connections_allowed(settings),
    )
    listener = await Listener.open(server, settings.host, settings.port)
    try:
        yield listener.address
    finally:
        gateway.state.stopping.begin()
        await listener.close()
        await server.stop(grace_s=IDLE_GRACE_S, within_s=SHUTDOWN_S)


async def run_keys(gateway: Gateway) -> None:
    """Keeps the API keys up to date, and the admin key if it is kept in a file. Runs until cancelled."""
    settings, keys = gateway.settings, gateway.server.keys
    async with asyncio.TaskGroup() as group:
        group.create_task(keys.run(), name="API keys")
        if (path := settings.admin_key_file) is not None:
            following = follow_admin_key(keys, path, admin_key_of(settings), every_s=settings.key_age_s_max / 2)
            group.create_task(following, name="admin key")


async def run(settings: GatewaySettings, stop: asyncio.Event) -> None:
    """Runs a gateway until `stop` is set. Raises LedgerMissing, SecretsRefused, DatabaseUnavailable, or a task's."""
    secrets = settings.ledger_secrets()
    dsn, size = settings.database_url.get_secret_value(), settings.pool_size_max
    session = {**postgres.BY_KEY, **SESSION}
    async with (
        await postgres.open_pool(dsn, application=NAME, size_max=size, settings=session) as pool,
        await postgres.open_pool(dsn, application=NAME, size_max=RESERVED_SIZE, settings=session) as reserved_pool,
    ):
        reads = Shares("reads", size - WRITE_CONNECTIONS, size // 2)
        database = Database(pool, reads, Shares("writes", size, size // 2))
        reserved = Database(reserved_pool)
        partitions = await read_partitions(database)
        if partitions is None:
            raise LedgerMissing
        secrets.check(*await read_fingerprints(database))
        client = LedgerClient(
            settings.amqp_url.get_secret_value(),
            partitions=partitions,
            secret=secrets.secret,
            name=NAME,
        )
        gateway = assemble(settings, database, reserved, client)
        # The ledger client ends after the server: the requests that are still being answered need it.
        served = asyncio.Event()
        async with until_stop(served) as group:
            group.create_task(client.run(), name="ledger client")
            group.create_task(run_keys(gateway), name="keys")
            group.create_task(gateway.state.instants.run(), name="instants")
            group.create_task(gateway.state.outcomes.run(), name="outcomes of repeats")
            # A balancer sends requests as soon as somebody listens. Without a broker reads can still be answered.
            await client.connected(CONNECT_S_MAX)
            async with serving(gateway) as address:
                ready, text = partial(missing, gateway.state), gateway.state.metrics.text
                inner = await serve_metrics(settings.host, settings.metrics_port, ready, text=text)
                host, port = inner.addresses[0][:2]
                log.info("gateway.listening", url=f"http://{address}", inner=f"http://{host}:{port}")
                await stop.wait()
            await inner.cleanup()
            served.set()
