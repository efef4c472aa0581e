"""Envelopes that go ahead of the broker, and what must not come that way or be held up by it."""

import asyncio

import aiohttp
import pytest
from aiohttp import web

from services.ledger_worker.ports import Inbound
from shared.amqp import Outgoing
from shared.direct_links import AHEAD_BYTES_MAX, MAC_BYTES, OFFERED_MAX, PATH, Session, hello_of
from shared.envelopes import ENVELOPE_KIND, ahead_of, outgoing_envelope
from shared.ids import Partition
from tests.contract.conditions import eventually
from tests.integration.direct_links import ITS_NAME, NAME, REPLIES, SECRET, Worker, greet, sender, serving

pytestmark = pytest.mark.usefixtures("no_rest")

P3 = Partition(3)
BODY = b'{"v":1,\n"commands":[]}'
MAC_KEY = b"m" * 32


def message(body: bytes = BODY) -> Outgoing:
    return outgoing_envelope(P3, body, MAC_KEY, commands=0, reply_to="not looked at")


async def test_an_envelope_comes_whole_to_a_worker_that_was_heard(worker: Worker) -> None:
    async with sender() as one:
        await one.listen(worker)
        assert not one.links.offer(NAME, REPLIES, ahead_of(message(), P3))
        await one.hears_its_name(worker)
        sent = message()
        assert one.links.offer(NAME, REPLIES, ahead_of(sent, P3))
        assert not one.links.offer(NAME, "another queue", ahead_of(message(), P3))
        assert not one.links.offer("another", REPLIES, ahead_of(message(), P3))
        await eventually(lambda: worker.came)
        mac = (sent.headers or {})["mac"]
        assert worker.came == [Inbound(P3, BODY, str(mac), REPLIES, False, None, 0, ENVELOPE_KIND, sent.message_id)]
        assert worker.came[0].is_ahead
        await worker.close()
        await one.has_given_up()
        assert not one.links.offer(NAME, REPLIES, ahead_of(message(), P3))
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("envelopes to")]
    assert not one.links.offer(NAME, REPLIES, ahead_of(message(), P3))


async def test_envelopes_come_in_order_and_those_that_are_too_large_not_at_all(worker: Worker) -> None:
    async with sender() as one:
        await one.hears_its_name(worker)
        small, largest = ahead_of(message(), P3), ahead_of(message(b"x"), P3)
        largest += b"x" * (AHEAD_BYTES_MAX - len(largest))
        assert not one.links.offer(NAME, REPLIES, largest + b"x")
        for each in (small, largest, small):
            assert one.links.offer(NAME, REPLIES, each)
        await eventually(lambda: len(worker.came) == 3)
        assert [len(inbound.body) for inbound in worker.came] == [
            len(BODY),
            AHEAD_BYTES_MAX - len(small) + len(BODY),
            len(BODY),
        ]


@pytest.mark.parametrize(
    "wrong", ["unsealed", "sealed as a reply", "the first again", "the next but one", "without a head", "no number"]
)
async def test_what_the_sender_did_not_send_or_not_now_ends_the_link(worker: Worker, wrong: str) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(worker.address) as link:
        its = await greet(worker, link)
        whole = ahead_of(message(), P3)
        first = its.envelopes.sealed(whole)
        await link.send_bytes(first)
        match wrong:
            case "unsealed":
                said = bytes(MAC_BYTES) + whole
            case "sealed as a reply":
                said = [its.replies.sealed(whole) for _ in range(2)][1]
            case "the first again":
                said = first
            case "the next but one":
                said = [its.envelopes.sealed(whole) for _ in range(2)][1]
            case "without a head":
                said = its.envelopes.sealed(BODY)
            case _:
                said = its.envelopes.sealed(b"three id mac\n" + BODY)
        await link.send_bytes(said)
        assert (await link.receive(5)).type is aiohttp.WSMsgType.CLOSE
        assert len(worker.came) == 1
        assert not worker.hears(REPLIES)


async def test_a_worker_that_takes_nothing_is_offered_no_more() -> None:
    says = asyncio.Event()

    async def deaf(request: web.Request) -> web.WebSocketResponse:
        stream = web.WebSocketResponse()
        await stream.prepare(request)
        await stream.send_str("w" * 16)
        hello = hello_of((await stream.receive()).data)
        its = Session(SECRET, str(request.url), REPLIES, worker_nonce="w" * 16, sender_nonce=hello.nonce)
        while True:
            await stream.send_bytes(its.replies.sealed(ITS_NAME))
            says.clear()
            await says.wait()

    async with serving(web.get(PATH, deaf)) as port, sender() as one:
        one.links.want(f"http://127.0.0.1:{port}{PATH}", REPLIES)
        await eventually(lambda: one.heard)
        largest = bytes(AHEAD_BYTES_MAX)
        offered = 0
        async with asyncio.timeout(20):
            while one.links.offer(NAME, REPLIES, largest):
                offered += 1
                await asyncio.sleep(0)
        assert offered > OFFERED_MAX  # what the kernel holds, and then some
        for _ in range(3):
            assert not one.links.offer(NAME, REPLIES, largest)
        says.set()
        await eventually(lambda: len(one.heard) == 2)
        assert not one.links.offer(NAME, REPLIES, largest)
