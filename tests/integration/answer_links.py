"""Both ends of answer links, over a real connection on loopback."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from services.ledger_worker.listeners import Listeners
from shared.answer_links import AnswerLinks, Hello, Session, fresh_nonce
from tests.contract.conditions import eventually

SECRET = b"k" * 32
REPLIES = "amq.gen-one"
LATER_REPLIES = "amq.gen-two"
LARGE_BYTES = 3_000_000
BROKER = "amqp://somebody:secret@127.0.0.1:5672/"


@asynccontextmanager
async def serving(*routes: web.RouteDef) -> AsyncGenerator[int]:
    """Yields the port on loopback."""
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


@asynccontextmanager
async def listening() -> AsyncGenerator[Listeners]:
    """A worker's end."""
    heard = Listeners(SECRET)
    async with serving(*heard.routes()) as port:
        heard.serve_at("127.0.0.1", port)
        await heard.locate(BROKER)
        yield heard
        await heard.close()


class Sender:
    """A sender's end, and what it heard."""

    def __init__(self, secret: bytes) -> None:
        self.heard: list[bytes] = []
        self.links = AnswerLinks(secret, self.hear)

    def hear(self, body: bytes) -> None:
        self.heard.append(body)
        if body == b"rubbish":
            raise ValueError(body)

    async def listen(self, worker: Listeners, reply_to: str = REPLIES) -> None:
        self.links.want(worker.address, reply_to)
        await eventually(lambda: worker.hears(reply_to))

    async def has_given_up(self) -> None:
        await eventually(lambda: not self.links._ways)


@asynccontextmanager
async def sender(secret: bytes = SECRET) -> AsyncGenerator[Sender]:
    """One that runs, until the end."""
    one = Sender(secret)
    running = asyncio.get_running_loop().create_task(one.links.run())
    try:
        yield one
    finally:
        assert not running.done()
        running.cancel()
        await asyncio.wait({running})


async def greet(worker: Listeners, link: aiohttp.ClientWebSocketResponse) -> None:
    nonce, mine = await link.receive_str(), fresh_nonce()
    its = Session(SECRET, worker.address, REPLIES, worker_nonce=nonce, sender_nonce=mine)
    await link.send_str(Hello(reply_to=REPLIES, nonce=mine, proof=its.proof()).model_dump_json())
    await eventually(lambda: worker.hears(REPLIES))
