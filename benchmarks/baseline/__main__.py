"""`python -m benchmarks.baseline`: serves until SIGTERM. BASELINE_DATABASE_URL, BASELINE_PORT."""

import asyncio
import os

from aiohttp import web

from benchmarks.baseline.connections import Connections
from benchmarks.baseline.service import Baseline
from shared.runtime.service import run_service

POOL_FIRST = 16
IDLE_S = 600.0


async def serve(stop: asyncio.Event) -> None:
    """Until `stop` is set."""
    connections = Connections(os.environ["BASELINE_DATABASE_URL"])
    await connections.open(POOL_FIRST)
    baseline = Baseline(connections)
    await baseline.read_assets()
    # No router, no middleware, no access log: like the gateway, the lean server of aiohttp.
    runner = web.ServerRunner(web.Server(baseline.serve, access_log=None, keepalive_timeout=IDLE_S))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(os.environ["BASELINE_PORT"])).start()
    try:
        await stop.wait()
    finally:
        await runner.cleanup()
        await connections.close()


run_service(serve)
