"""Answers without the broker: both ends over a real connection."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from services.ledger_worker import listeners
from services.ledger_worker.listeners import Listeners
from shared import answer_links
from shared.answer_links import AnswerLinks
from tests.contract.conditions import eventually
from tests.integration.silence import way_to

KEY = b"k" * 32
OTHER_KEY = b"o" * 32
REPLIES = "amq.gen-one"
LATER_REPLIES = "amq.gen-two"
LARGE_BYTES = 3_000_000
UNREAD_BYTES = 100_000
BROKER = "amqp://somebody:secret@127.0.0.1:5672/"


@asynccontextmanager
async def serving(routes: list[web.RouteDef]) -> AsyncGenerator[int]:
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


@pytest.fixture
async def worker() -> AsyncIterator[Listeners]:
    """A worker's end that listens."""
    heard = Listeners(KEY)
    async with serving(heard.routes()) as port:
        heard.serve_at("127.0.0.1", port)
        await heard.locate(BROKER)
        yield heard
        await heard.close()


class Sender:
    """A sender's end, and what it heard."""

    def __init__(self, key: bytes = KEY) -> None:
        self.heard: list[bytes] = []
        self.links = AnswerLinks(key, self.heard.append)


@asynccontextmanager
async def sender(key: bytes = KEY) -> AsyncGenerator[Sender]:
    """One that runs."""
    one = Sender(key)
    running = asyncio.get_running_loop().create_task(one.links.run())
    try:
        yield one
    finally:
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()


async def test_who_listens_is_told_everything_in_order(worker: Listeners) -> None:
    told = [b"one", b"x" * LARGE_BYTES, b"three"]
    async with sender() as one:
        assert not await worker.tell(REPLIES, b"nobody listens")
        one.links.want(worker.address, REPLIES)
        await eventually(lambda: worker.hears(REPLIES))
        for body in told:
            assert await worker.tell(REPLIES, body)
        await eventually(lambda: one.heard == told)
    await eventually(lambda: not worker.hears(REPLIES))


async def test_wanting_what_is_there_opens_no_second_link(worker: Listeners) -> None:
    async with sender() as one:
        for _ in range(3):
            one.links.want(worker.address, REPLIES)
        await eventually(lambda: worker.hears(REPLIES))
        one.links.want(worker.address, REPLIES)
        await worker.tell(REPLIES, b"once")
        await eventually(lambda: one.heard == [b"once"])
        assert len(one.links._ways) == 1


async def test_nobody_listens_without_the_secret(worker: Listeners) -> None:
    async with sender(OTHER_KEY) as stranger, aiohttp.ClientSession() as session:
        stranger.links.want(worker.address, REPLIES)
        refused = aiohttp.WSServerHandshakeError
        for headers in ({}, {answer_links.PROOF_HEADER: "é"}, {answer_links.REPLY_TO_HEADER: REPLIES}):
            with pytest.raises(refused) as told:
                await session.ws_connect(worker.address, headers=headers)
            assert told.value.status == 403
        assert not worker.hears(REPLIES)
        assert not await worker.tell(REPLIES, b"secret")
        assert stranger.heard == []


async def test_what_does_not_know_the_secret_tells_nobody_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_links, "REST_S", 0.0)
    asked = 0

    async def forging(request: web.Request) -> web.WebSocketResponse:
        nonlocal asked
        asked += 1
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        shown = (request.headers[name] for name in (answer_links.REPLY_TO_HEADER, answer_links.NONCE_HEADER))
        # The sender's own proof, sent back, is none of the worker.
        await socket.send_str(answer_links.proof(OTHER_KEY, "worker", *shown) if asked > 1 else _shown(request))
        await socket.send_bytes(b"posted, believe me")
        await socket.receive()
        return socket

    async with serving([web.get(answer_links.PATH, forging)]) as port, sender() as one:
        for reply_to in (REPLIES, LATER_REPLIES):
            one.links.want(f"http://127.0.0.1:{port}{answer_links.PATH}", reply_to)
        await eventually(lambda: asked == 2)
        await eventually(lambda: not one.links._ways)
        assert one.heard == []


async def test_who_reads_nothing_is_cut_off_and_nobody_waits_for_it(
    worker: Listeners, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "UNREAD_BYTES_MAX", UNREAD_BYTES)
    async with aiohttp.ClientSession() as session:
        nonce = "n"
        headers = {
            answer_links.REPLY_TO_HEADER: REPLIES,
            answer_links.NONCE_HEADER: nonce,
            answer_links.PROOF_HEADER: answer_links.proof(KEY, "sender", REPLIES, nonce),
        }
        async with session.ws_connect(worker.address, headers=headers):
            await eventually(lambda: worker.hears(REPLIES))
            told = 0
            async with asyncio.timeout(10):
                # What the kernel takes, and then some; nothing of it is read here.
                while await worker.tell(REPLIES, b"x" * LARGE_BYTES):
                    told += 1
            assert told > 0
            assert not worker.hears(REPLIES)


async def test_a_worker_that_cannot_be_reached_is_tried_again_only_after_a_rest(
    worker: Listeners, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_links, "REST_S", 3_600.0)
    async with sender() as one:
        one.links.want("http://127.0.0.1:9/answers", REPLIES)
        one.links.want(worker.address, REPLIES)
        await eventually(lambda: worker.hears(REPLIES))  # the other is none the worse for it
        assert len(one.links._ways) == 2
        one.links.want("http://127.0.0.1:9/answers", REPLIES)
        assert len(one.links._ways) == 2


async def test_a_link_that_the_worker_closes_may_begin_anew(worker: Listeners) -> None:
    async with sender() as one:
        for told in (b"before", b"after"):
            one.links.want(worker.address, REPLIES)
            await eventually(lambda: worker.hears(REPLIES))
            assert await worker.tell(REPLIES, told)
            await worker.close()
            assert not await worker.tell(REPLIES, b"closed")
            await eventually(lambda: not one.links._ways)
        assert one.heard == [b"before", b"after"]


async def test_an_older_reply_queue_is_heard_until_its_worker_answers_the_next(worker: Listeners) -> None:
    async with sender() as one:
        one.links.want(worker.address, REPLIES)
        await eventually(lambda: worker.hears(REPLIES))
        await worker.tell(REPLIES, b"sent before the broker was lost")
        one.links.want(worker.address, LATER_REPLIES)
        await eventually(lambda: worker.hears(LATER_REPLIES) and not worker.hears(REPLIES))
        await worker.tell(LATER_REPLIES, b"sent after it")
        await eventually(lambda: len(one.heard) == 2)


async def test_a_link_that_falls_silent_is_closed_by_both_ends(
    worker: Listeners, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_links, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(listeners, "HEARTBEAT_S", 0.2)
    async with way_to(worker.address) as way, sender() as one:
        one.links.want(way.url, REPLIES)
        await eventually(lambda: worker.hears(REPLIES))
        way.open.clear()
        await eventually(lambda: not worker.hears(REPLIES) and not one.links._ways)


@pytest.mark.parametrize(
    ("bound", "address"),
    [("127.0.0.1", "http://127.0.0.1:9100/answers"), ("0.0.0.0", "http://127.0.0.1:9100/answers")],  # noqa: S104 - told, not bound
)
async def test_others_reach_it_where_it_is_bound_or_where_the_broker_sees_it(bound: str, address: str) -> None:
    found = Listeners(KEY)
    await found.locate(BROKER)
    assert not found.address  # it serves nowhere yet
    found.serve_at(bound, 9100)
    await found.locate(BROKER)
    assert found.address == address


def _shown(request: web.Request) -> str:
    return request.headers[answer_links.PROOF_HEADER]
