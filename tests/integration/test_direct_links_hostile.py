"""Answers without the broker, and those who should not have them, tell them or hold them up."""

import asyncio
import json

import aiohttp
import pytest
from aiohttp import web

from services.ledger_worker import senders
from shared import direct_links
from shared.direct_links import AHEAD_BYTES_MAX, PATH, Hello, Session, fresh_nonce
from tests.contract.conditions import eventually
from tests.integration.direct_links import (
    LARGE_BYTES,
    LATER_REPLIES,
    REPLIES,
    SECRET,
    Worker,
    greet,
    sender,
    serving,
)
from tests.integration.silence import way_to

pytestmark = pytest.mark.usefixtures("no_rest")

OTHER_SECRET = b"o" * 32
UNREAD_BYTES = 100_000
TOLD = 12  # messages, more than the kernel takes


async def test_nobody_listens_without_the_secret(worker: Worker) -> None:
    async with sender(OTHER_SECRET) as stranger:
        stranger.links.want(worker.address, REPLIES)
        await stranger.has_given_up()
        assert not worker.hears(REPLIES)
        assert not await worker.tell(REPLIES, b"secret")
        assert stranger.heard == []


GREETINGS = {
    "nothing that can be read": "hello",
    "bytes": b"hello",
    "no proof": json.dumps({"reply_to": REPLIES, "nonce": "n" * 32}),
    "a proof of something else": json.dumps({"reply_to": REPLIES, "nonce": "n" * 32, "proof": "0" * 64}),
    "a proof that is no text": json.dumps({"reply_to": REPLIES, "nonce": "n" * 32, "proof": "é" * 64}),
    "too much": "x" * (AHEAD_BYTES_MAX + 100),
}


@pytest.mark.parametrize("greeting", GREETINGS.values(), ids=GREETINGS)
async def test_who_greets_otherwise_is_shown_out(worker: Worker, greeting: str | bytes) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(worker.address) as link:
        await link.receive_str()
        await (link.send_str(greeting) if isinstance(greeting, str) else link.send_bytes(greeting))
        told = await link.receive(5)
        assert told.type is aiohttp.WSMsgType.CLOSE
        assert (told.data == aiohttp.WSCloseCode.MESSAGE_TOO_BIG) == (len(greeting) > AHEAD_BYTES_MAX)
    assert not worker._links


async def test_who_says_nothing_is_shown_out(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "OPEN_S_MAX", 0.1)
    async with aiohttp.ClientSession() as session, session.ws_connect(worker.address) as link:
        await link.receive_str()
        assert (await link.receive(5)).type is aiohttp.WSMsgType.CLOSE


async def test_a_greeting_is_good_for_one_link(worker: Worker) -> None:
    async with sender() as one, aiohttp.ClientSession() as session:
        await one.listen(worker)
        async with session.ws_connect(worker.address) as first:
            nonce, mine = await first.receive_str(), fresh_nonce()
            its = Session(SECRET, worker.address, LATER_REPLIES, worker_nonce=nonce, sender_nonce=mine)
            greeting = Hello(reply_to=LATER_REPLIES, nonce=mine, proof=its.proof()).model_dump_json()
            await first.send_str(greeting)
            await eventually(lambda: worker.hears(LATER_REPLIES))
            async with session.ws_connect(worker.address) as thief:
                await thief.receive_str()
                await thief.send_str(greeting)
                assert (await thief.receive(5)).type is aiohttp.WSMsgType.CLOSE
            await worker.tell(LATER_REPLIES, b"for the first alone")
            assert its.replies.opened(await first.receive_bytes()) == b"for the first alone"


async def test_a_link_to_one_worker_is_not_passed_on_to_another(worker: Worker) -> None:
    """What took over a port hands the greeting on to a worker that is asked by another address."""
    async with way_to(worker.address) as relay, sender() as one:
        one.links.want(relay.url, REPLIES)
        await one.has_given_up()
        assert not worker.hears(REPLIES)


@pytest.mark.parametrize("first", ["a nonce of its own making", b"bytes", None])
async def test_what_does_not_know_the_secret_tells_nobody_anything(first: str | bytes | None) -> None:
    async def forging(request: web.Request) -> web.WebSocketResponse:
        stream = web.WebSocketResponse()
        await stream.prepare(request)
        if first is not None:
            await (stream.send_str(first) if isinstance(first, str) else stream.send_bytes(first))
            for body in (b"posted, believe me", b"0" * 32 + b"posted, believe me"):
                await stream.send_bytes(body)
            await stream.receive()
        return stream

    async with serving(web.get(PATH, forging)) as port, sender() as one:
        one.links.want(f"http://127.0.0.1:{port}{PATH}", REPLIES)
        await one.has_given_up()
        assert one.heard == []


async def test_a_message_counts_once_and_in_its_place() -> None:
    ends = [
        Session(SECRET, "http://worker/direct", REPLIES, worker_nonce="w", sender_nonce="s")
        for _ in ("worker", "sender")
    ]
    first, second = (ends[0].replies.sealed(body) for body in (b"one", b"two"))
    assert ends[1].replies.opened(first) == b"one"
    for wrong in (first, second[:-1], b"", second):
        with pytest.raises(direct_links.LinkRefused):
            ends[1].replies.opened(wrong)


@pytest.mark.parametrize("name", ["secret", "address", "reply_to", "worker_nonce", "sender_nonce"])
def test_every_part_of_a_session_is_in_its_key(name: str) -> None:
    parts = {"address": "a", "reply_to": "r", "worker_nonce": "w", "sender_nonce": "s"}
    other = {**parts, name: "other"} if name in parts else parts
    secrets = SECRET, SECRET if name in parts else OTHER_SECRET
    one, two = Session(secrets[0], **parts), Session(secrets[1], **other)
    assert one.proof() != two.proof()
    for direction in ("replies", "envelopes"):
        assert getattr(one, direction).sealed(b"body") != getattr(two, direction).sealed(b"body")


async def test_who_reads_nothing_is_cut_off_and_nobody_waits_for_it(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(senders, "UNREAD_BYTES_MAX", UNREAD_BYTES)
    async with aiohttp.ClientSession() as session, session.ws_connect(worker.address) as link:
        await greet(worker, link)
        told = 0
        async with asyncio.timeout(10):
            # What the kernel takes, and then some; nothing of it is read here.
            while await worker.tell(REPLIES, b"x" * LARGE_BYTES):
                told += 1
        assert told > 0
        assert not worker.hears(REPLIES)
        read = 0
        while (await link.receive(5)).type is aiohttp.WSMsgType.BINARY:
            read += 1
        assert read < told  # it was cut off in the midst of a message


async def test_a_worker_that_stops_waits_for_nobody_who_reads_nothing(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(senders, "CLOSE_S_MAX", 0.2)
    monkeypatch.setattr(senders, "UNREAD_BYTES_MAX", TOLD * LARGE_BYTES)
    async with aiohttp.ClientSession() as session, session.ws_connect(worker.address) as link:
        await greet(worker, link)
        for _ in range(TOLD):
            await worker.tell(REPLIES, b"x" * LARGE_BYTES)
        async with asyncio.timeout(3):
            await worker.close()
        assert not worker.hears(REPLIES)
        read = 0
        while (await link.receive(5)).type is aiohttp.WSMsgType.BINARY:
            read += 1
        assert read < TOLD  # the rest does not keep the process
