"""The network's port, which a fault can close for a while."""

import asyncio

import structlog
from aiohttp import web

log = structlog.get_logger()


CLOSED_MS_MIN = 50


class Port:
    """Where the network listens. `close_for` may be called from any handler."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._closed_ms = 0
        self._to_close = asyncio.Event()

    def close_for(self, ms: int) -> None:
        """Refuses connections for so long, beginning soon. Idle connections are closed, requests in progress end."""
        self._closed_ms = max(ms, CLOSED_MS_MIN)
        self._to_close.set()

    async def open(self, runner: web.AppRunner) -> web.TCPSite:
        """Begins to listen; port 0 becomes a free one, and stays that."""
        site = web.TCPSite(runner, self._host, self._port)
        await site.start()
        self._port = site.port
        return site

    async def run(self, runner: web.AppRunner, site: web.TCPSite) -> None:
        """Closes and opens the port as ordered, until it is cancelled."""
        while True:
            await self._to_close.wait()
            await site.stop()
            for connection in runner.server.connections if runner.server else ():
                connection.close()
            log.debug("port.closed", ms=self._closed_ms)
            await asyncio.sleep(self._closed_ms / 1000)
            # What was ordered meanwhile has happened with it.
            self._to_close.clear()
            site = await self.open(runner)
