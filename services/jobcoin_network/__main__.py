"""`python -m services.jobcoin_network`: serve the simulated network until SIGTERM."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from time import time_ns

import structlog
from aiohttp import web

from services.jobcoin_network.app import LINE_BYTES_MAX, build_app
from services.jobcoin_network.control import build_control
from services.jobcoin_network.core.faults import FaultPlans
from services.jobcoin_network.injection import FaultyNetwork
from services.jobcoin_network.network import Network
from services.jobcoin_network.port import Port
from services.jobcoin_network.settings import JobcoinNetworkSettings
from services.jobcoin_network.store import SqliteStore
from shared.runtime.logs import configure_logs
from shared.runtime.service import run_service, until_stop

log = structlog.get_logger()

IDLE_TIMEOUT_S = 75.0
STOP_TIMEOUT_S = 5.0


def main() -> None:
    """Runs the service; exits 0 when asked to stop and 1 on a fault."""
    settings = JobcoinNetworkSettings.load_or_exit()
    configure_logs("jobcoin_network", settings.log_format, settings.log_level)

    run_service(lambda stop: serve(settings, stop))


async def serve(settings: JobcoinNetworkSettings, stop: asyncio.Event) -> None:
    """Serves until `stop` is set, then finishes what is in flight. Raises what a failed commit raised."""
    with contextlib.closing(SqliteStore(settings.jobcoin_dir)) as store:
        network = Network(store, lambda: time_ns() // 1_000_000, on_fault=stop.set)
        plans, port = FaultPlans(), Port(settings.host, settings.port)
        app = build_app(FaultyNetwork(network, plans, port.close_for))
        async with _running(app) as runner, _control(settings, plans):
            site = await port.open(runner)
            log.info("jobcoin.listening", addresses=_addresses(runner))
            async with until_stop(stop) as tasks:
                tasks.create_task(port.run(runner, site), name="port")
        if network.fault is not None:
            raise network.fault
    log.info("jobcoin.stopped")


@contextlib.asynccontextmanager
async def _running(app: web.Application) -> AsyncGenerator[web.AppRunner]:
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=IDLE_TIMEOUT_S,
        shutdown_timeout=STOP_TIMEOUT_S,
        max_line_size=LINE_BYTES_MAX,
    )
    await runner.setup()
    try:
        yield runner
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _control(settings: JobcoinNetworkSettings, plans: FaultPlans) -> AsyncGenerator[None]:
    """The control port, if there is to be one."""
    if settings.control_port is None:
        yield
        return
    async with _running(build_control(plans)) as runner:
        await web.TCPSite(runner, settings.control_host, settings.control_port).start()
        log.info("control.listening", addresses=_addresses(runner))
        yield


def _addresses(runner: web.AppRunner) -> list[str]:
    return [f"{address[0]}:{address[1]}" for address in runner.addresses]


if __name__ == "__main__":
    main()
