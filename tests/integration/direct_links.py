"""Both ends of direct links, over a real connection on loopback."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from services.ledger_worker.ports import Inbound
from services.ledger_worker.senders import Senders
from shared.direct_links import DirectLinks, Hello, Session, fresh_nonce
from tests.contract.conditions import eventually

SECRET = b"k" * 32
REPLIES = "amq.gen-one"
LATER_REPLIES = "amq.gen-two"
LARGE_BYTES = 3_000_000
NAME = "worker-1"
ITS_NAME = b"a reply that says whose it is"
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


class Worker(Senders):
    """A worker's end, and what came ahead to it."""

    def __init__(self) -> None:
        self.came: list[Inbound] = []
        super().__init__(SECRET, self.came.append)


@asynccontextmanager
async def listening() -> AsyncGenerator[Worker]:
    """A worker's end."""
    worker = Worker()
    async with serving(*worker.routes()) as port:
        worker.serve_at("127.0.0.1", port)
        await worker.locate(BROKER)
        yield worker
        await worker.close()


class Sender:
    """A sender's end, and what it heard."""

    def __init__(self, secret: bytes) -> None:
        self.heard: list[bytes] = []
        self.links = DirectLinks(secret, self.hear)

    def hear(self, body: bytes) -> str:
        self.heard.append(body)
        if body == b"rubbish":
            raise ValueError(body)
        return NAME if body == ITS_NAME else ""

    async def listen(self, worker: Senders, reply_to: str = REPLIES) -> None:
        self.links.want(worker.address, reply_to)
        await eventually(lambda: worker.hears(reply_to))

    async def hears_its_name(self, worker: Senders) -> None:
        """From here on envelopes go to it."""
        heard = len(self.heard)
        await self.listen(worker)
        assert await worker.tell(REPLIES, ITS_NAME)
        await eventually(lambda: len(self.heard) > heard)

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


async def greet(worker: Senders, link: aiohttp.ClientWebSocketResponse) -> Session:
    nonce, mine = await link.receive_str(), fresh_nonce()
    its = Session(SECRET, worker.address, REPLIES, worker_nonce=nonce, sender_nonce=mine)
    await link.send_str(Hello(reply_to=REPLIES, nonce=mine, proof=its.proof()).model_dump_json())
    await eventually(lambda: worker.hears(REPLIES))
    return its
