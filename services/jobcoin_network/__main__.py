"""`python -m services.jobcoin_network`: serve the simulated network until SIGTERM."""

import asyncio
import contextlib
from time import time_ns

import structlog
from aiohttp import web

from services.jobcoin_network.app import build_app
from services.jobcoin_network.network import Network
from services.jobcoin_network.settings import JobcoinNetworkSettings
from services.jobcoin_network.store import SqliteStore
from shared.runtime.logs import configure_logs
from shared.runtime.service import run_service

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
        runner = web.AppRunner(
            build_app(network), access_log=None, keepalive_timeout=IDLE_TIMEOUT_S, shutdown_timeout=STOP_TIMEOUT_S
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
            log.info("jobcoin.listening", addresses=[f"{address[0]}:{address[1]}" for address in runner.addresses])
            await stop.wait()
        finally:
            await runner.cleanup()
        if network.fault is not None:
            raise network.fault
    log.info("jobcoin.stopped")


if __name__ == "__main__":
    main()
