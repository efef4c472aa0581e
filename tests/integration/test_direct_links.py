"""Answers without the broker: links that open, break and begin anew."""

from contextlib import AsyncExitStack

import pytest

from services.ledger_worker import senders
from services.ledger_worker.senders import Senders
from shared import direct_links
from tests.contract.conditions import eventually
from tests.integration.direct_links import (
    BROKER,
    LARGE_BYTES,
    LATER_REPLIES,
    REPLIES,
    SECRET,
    Worker,
    listening,
    sender,
)
from tests.integration.silence import way_to

pytestmark = pytest.mark.usefixtures("no_rest")

WORKERS = 101  # one more than aiohttp connects to unless it is told otherwise


async def test_who_listens_is_told_everything_in_order(worker: Worker) -> None:
    told = [b"one", b"x" * LARGE_BYTES, b"", b"four"]
    async with sender() as one:
        assert not await worker.tell(REPLIES, b"nobody listens")
        await one.listen(worker)
        for body in told:
            assert await worker.tell(REPLIES, body)
        await eventually(lambda: one.heard == told)
    await eventually(lambda: not worker.hears(REPLIES))


async def test_wanting_what_is_there_opens_no_second_link(worker: Worker) -> None:
    async with sender() as one:
        for _ in range(3):
            one.links.want(worker.address, REPLIES)
        await one.listen(worker)
        one.links.want(worker.address, REPLIES)
        assert not one.links._changed.is_set()
        assert len(one.links._ways) == 1


async def test_a_reply_that_cannot_be_taken_in_ends_nothing(worker: Worker) -> None:
    async with sender() as one:
        await one.listen(worker)
        for body in (b"rubbish", b"next"):
            await worker.tell(REPLIES, body)
        await eventually(lambda: one.heard == [b"rubbish", b"next"])


async def test_a_sender_hears_as_many_workers_as_there_are() -> None:
    async with AsyncExitStack() as stack, sender() as one:
        workers = [await stack.enter_async_context(listening()) for _ in range(WORKERS)]
        for each in workers:
            one.links.want(each.address, REPLIES)
        await eventually(lambda: all(each.hears(REPLIES) for each in workers))


async def test_a_reply_to_a_link_that_broke_goes_by_the_broker(worker: Worker) -> None:
    async with sender() as one:
        await one.listen(worker)
        worker._links[REPLIES].transport.abort()
        assert not await worker.tell(REPLIES, b"lost")  # before anything was heard of its end
        assert not worker.hears(REPLIES)


UNREACHABLE = (
    "http://127.0.0.1:9/direct",
    "http://a..b:1/direct",
    "http://.x/",
    "http://u:pŁ@127.0.0.1:1/",
    "file:///x",
    "",
)


async def test_a_worker_that_cannot_be_reached_is_tried_again_only_after_a_rest(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct_links, "REST_S", 3_600.0)
    async with sender() as one:
        for _ in range(2):
            for address in UNREACHABLE:
                one.links.want(address, REPLIES)
            await one.listen(worker)  # none the worse for the others
            assert len(one.links._ways) == len(UNREACHABLE) + 1


async def test_a_link_that_the_worker_closes_may_begin_anew(worker: Worker) -> None:
    async with sender() as one:
        for told in (b"before", b"after"):
            await one.listen(worker)
            assert await worker.tell(REPLIES, told)
            await worker.close()
            assert not await worker.tell(REPLIES, b"closed")
            await one.has_given_up()
        assert one.heard == [b"before", b"after"]


async def test_an_older_reply_queue_is_heard_until_its_worker_answers_the_next(worker: Worker) -> None:
    async with sender() as one:
        await one.listen(worker)
        await worker.tell(REPLIES, b"sent before the broker was lost")
        await one.listen(worker, LATER_REPLIES)
        await eventually(lambda: not worker.hears(REPLIES))
        await worker.tell(LATER_REPLIES, b"sent after it")
        await eventually(lambda: len(one.heard) == 2)


async def test_a_second_link_of_the_same_name_ends_the_first_and_outlives_it(worker: Worker) -> None:
    async with sender() as first, sender() as second:
        await first.listen(worker)
        link = worker._links[REPLIES]
        second.links.want(worker.address, REPLIES)
        await first.has_given_up()
        assert worker._links[REPLIES] is not link
        assert await worker.tell(REPLIES, b"for the second")
        await eventually(lambda: second.heard == [b"for the second"])
        assert first.heard == []


async def test_a_link_that_falls_silent_is_closed_by_both_ends(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_links, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(senders, "HEARTBEAT_S", 0.2)
    async with way_to(worker.address) as way, sender() as one:
        worker.address = way.url  # as others see it
        await one.listen(worker)
        way.open.clear()
        await eventually(lambda: not worker.hears(REPLIES))
        await one.has_given_up()


@pytest.mark.parametrize(
    ("bound", "broker", "address"),
    [
        ("127.0.0.1", BROKER, "http://127.0.0.1:9100/direct"),
        ("worker-1", BROKER, "http://worker-1:9100/direct"),
        ("0.0.0.0", BROKER, "http://127.0.0.1:9100/direct"),  # noqa: S104 - told, not bound
        ("0.0.0.0", "amqp://[::1]/", ""),  # noqa: S104 - told, not bound
        ("::", "amqp://[::1]/", "http://[::1]:9100/direct"),
        ("0:0:0:0:0:0:0:0", "amqp://[::1]/", "http://[::1]:9100/direct"),
        ("::", "amqp://nowhere.invalid/", ""),
    ],
)
async def test_others_reach_it_where_it_is_bound_or_where_the_broker_sees_it(
    bound: str, broker: str, address: str
) -> None:
    found = Senders(SECRET, lambda _: None)
    await found.locate(broker)
    assert not found.address  # it serves nowhere yet
    found.serve_at(bound, 9100)
    await found.locate(broker)
    assert found.address == address
