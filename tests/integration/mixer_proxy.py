"""Stands between the mixer and the network, and lets transfers and lists go wrong."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import aiohttp
from aiohttp import web

from tests.integration.mixer_stage import Stage


async def logged(log: Path, words: str) -> bool:
    return words in log.read_text(encoding="utf-8", errors="replace")


@dataclass(slots=True)
class Between:
    """Stands before the network: passes everything on, except that transfers meet the next of `fates`."""

    network: str
    fates: list[str] = field(default_factory=list[str])
    met: list[str] = field(default_factory=list[str])
    url: str = ""
    # The list shows its last row twice, as if it had a twin.
    is_doubling: bool = False
    # What the list shows instead of its rows.
    rewrite: Callable[[list[dict[str, str]]], object] | None = None
    # Whatever is asked of this address is answered with a page.
    unreadable: str = ""
    late_s: float = 1.0
    late: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        fate = self.fates.pop(0) if request.method == "POST" and self.fates else "pass"
        self.met.append(fate)
        if fate == "lose":
            return web.json_response({"error": "try later"}, status=503)
        if fate == "late":
            self.late.append(asyncio.get_running_loop().create_task(self._later(request, body)))
            return web.Response(text="<html>Bad Gateway</html>", status=200, content_type="text/html")
        if self.unreadable and request.path.endswith(f"/addresses/{self.unreadable}"):
            return web.Response(text="<html>Bad Gateway</html>", content_type="text/html")
        answered = await self._ask(request, body)
        if self.rewrite is not None and request.path.endswith("/transactions") and request.method == "GET":
            rows = json.loads(answered.body if isinstance(answered.body, bytes) else b"[]")
            # Byte by byte as the network writes it: what is left as it was must look so.
            return web.json_response(self.rewrite(rows), dumps=partial(json.dumps, separators=(",", ":")))
        if self.is_doubling and request.path.endswith("/transactions") and request.method == "GET":
            rows = json.loads(answered.body if isinstance(answered.body, bytes) else b"[]")
            return web.json_response([*rows, *rows[-1:]])
        if fate == "cut":
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        return answered

    async def _later(self, request: web.Request, body: bytes) -> None:
        await asyncio.sleep(self.late_s)
        await self._ask(request, body)

    async def _ask(self, request: web.Request, body: bytes) -> web.Response:
        kept = {name: value for name, value in request.headers.items() if name in {"Content-Type", "If-None-Match"}}
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, self.network + request.path_qs, data=body, headers=kept) as answer,
        ):
            headers = {name: value for name, value in answer.headers.items() if name in {"Content-Type", "ETag"}}
            return web.Response(status=answer.status, body=await answer.read(), headers=headers)


@asynccontextmanager
async def between(on: Stage, fates: list[str]) -> AsyncGenerator[Between]:
    proxy = Between(on.network.url, fates)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", proxy.pass_on)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield proxy
    finally:
        await asyncio.gather(*proxy.late)
        await runner.cleanup()
