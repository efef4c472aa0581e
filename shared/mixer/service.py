"""How both services of the mixer run: connections, tasks, gauges, readiness, and a clean stop."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from shared.broker.channels import NotPublished
from shared.broker.connection import ManagedConnection
from shared.database import postgres
from shared.database.durability import check_database
from shared.ledger_client.client import LedgerClient
from shared.mixer.jobcoin import JobcoinNetwork, open_network
from shared.mixer.progress_report import ProgressReport
from shared.mixer.settings import MixerSettings
from shared.mixer.step_loop import StepLoop
from shared.runtime.logs import configure_logs
from shared.runtime.service import run_service, serve_metrics, until_stop

log = structlog.get_logger()

GAUGES_S: Final = 5.0
DRAIN_S: Final = 5.0

# Goes on until it is cancelled.
BackgroundWork = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class MixerParts:
    """The parts of one service, wired together. `missing` names what else than broker and database is not ready."""

    connections: Sequence[ManagedConnection]
    loops: Sequence[StepLoop[Any]]
    others: Sequence[BackgroundWork]
    missing: Callable[[], Mapping[str, str]] = dict


WireParts = Callable[[postgres.Pool, JobcoinNetwork, LedgerClient], MixerParts]


def run_mixer_service(application: str, settings: MixerSettings, wire: WireParts) -> None:
    """Runs the service whose parts `wire` makes until SIGTERM; exits 1 on a fault."""
    configure_logs(application, settings.log_format, settings.log_level)
    run_service(lambda stop: _serve(application, settings, wire, stop))


async def _serve(application: str, settings: MixerSettings, wire: WireParts, stop: asyncio.Event) -> None:
    dsn = settings.database_url.get_secret_value()
    secrets = settings.ledger_secrets()
    partitions = await check_database(dsn, secrets, application=application)
    client = LedgerClient(
        settings.amqp_url.get_secret_value(),
        partitions=partitions,
        secret=secrets.secret,
        name=application,
    )
    opened = open_network(
        settings.jobcoin_url,
        timeout_s=settings.network_timeout_s,
        list_timeout_s=settings.list_timeout_s,
        bytes_max=settings.answer_bytes_max,
    )
    pool = await postgres.open_pool(dsn, application=application)
    try:
        async with opened as network:
            parts = wire(pool, network, client)
            report = ProgressReport(pool, application, lambda: _missing(parts, client))
            runner = await serve_metrics(
                settings.host, settings.metrics_port, lambda: _missing_now(parts, client, report)
            )
            log.info("service.started", service=application, house=settings.house_address)
            try:
                await _run(parts, client, report, stop)
            finally:
                await runner.cleanup()
    finally:
        pool.terminate()
    log.info("service.stopped", service=application)


async def _run(parts: MixerParts, client: LedgerClient, report: ProgressReport, stop: asyncio.Event) -> None:
    """Works until `stop`. What is half done then is taken up again from its rows."""
    stopped = asyncio.Event()
    async with until_stop(stopped) as group:
        runs = [part.run for part in (client, report, *parts.connections, *parts.loops)]
        for run in (*runs, *parts.others):
            group.create_task(run(), name=run.__qualname__)
        group.create_task(_keep_gauges(parts), name="gauges")
        await stop.wait()
        await asyncio.gather(*(loop.drain(DRAIN_S) for loop in parts.loops))
        await report.withdraw()
        stopped.set()


def _missing(parts: MixerParts, client: LedgerClient) -> dict[str, str]:
    """What is not ready, and why, apart from the database."""
    missing = dict(parts.missing())
    for loop in parts.loops:
        missing |= loop.missing()
    if not client.is_ready() or any(connection.current is None for connection in parts.connections):
        missing["broker"] = "not connected"
    return missing


async def _missing_now(parts: MixerParts, client: LedgerClient, report: ProgressReport) -> dict[str, str]:
    missing = _missing(parts, client)
    if "broker" not in missing:
        try:
            await client.ping_broker()
        except NotPublished:
            missing["broker"] = "it does not answer"
    if (late := report.late()) is not None:
        missing["database"] = late
    return missing


async def _keep_gauges(parts: MixerParts) -> None:
    while True:
        try:
            for loop in parts.loops:
                await loop.set_gauges()
        except postgres.TRANSIENT_FAULTS as fault:
            log.warning("gauges.not_read", fault=repr(fault))
        await asyncio.sleep(GAUGES_S)
