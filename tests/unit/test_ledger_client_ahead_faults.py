"""The client of the ledger: what becomes of what went ahead when the broker does not take it."""

import asyncio

import pytest

from shared import amqp, lines
from shared.amqp import BusError, NotSent, Outgoing, Refused, SendUnknown, Unroutable
from shared.ids import Partition
from tests.builders import account_in
from tests.contract.conditions import eventually
from tests.unit.ledger_wire import HERE, MAKE, Wire, ids, move, posted

pytestmark = pytest.mark.usefixtures("no_answer_is_late")


@pytest.mark.parametrize("fault", [NotSent("gone"), Refused("p00"), Unroutable("p00"), SendUnknown("late")])
async def test_of_what_went_ahead_nothing_is_certain_that_the_broker_did_not_take(wire: Wire, fault: BusError) -> None:
    await wire.link()
    wire.fault = fault
    [sent] = wire.send()
    with pytest.raises(SendUnknown):
        await wire.client.answer(sent, 0.05)
    assert wire.client.in_flight == 0


@pytest.mark.parametrize("fault", [NotSent("gone"), Refused("p00"), Unroutable("p00"), SendUnknown("late")])
async def test_what_did_not_go_ahead_is_told_at_once_how_its_publish_ended(wire: Wire, fault: BusError) -> None:
    await wire.link()
    wire.linked, wire.fault = "", fault
    [sent] = wire.send()
    with pytest.raises(type(fault)) as raised:
        await wire.client.answer(sent, 60)
    assert raised.value is fault
    assert wire.client.in_flight == 0


async def test_what_the_broker_did_not_take_may_be_answered_all_the_same(wire: Wire) -> None:
    await wire.link()
    wire.fault = NotSent("gone")
    [sent] = wire.send()
    waiting = asyncio.get_running_loop().create_task(wire.client.answer(sent, 60))
    await eventually(lambda: sent.fault is not None)
    await wire.tell(posted(sent))
    answer = await waiting
    assert answer is not None
    assert wire.client.in_flight == 0


async def test_what_the_broker_did_not_take_is_sent_anew_when_it_is_repeated_and_both_hear(wire: Wire) -> None:
    await wire.link()
    wire.fault = NotSent("gone")
    command = move()
    sent = wire.client.send(command, HERE)
    await eventually(lambda: sent.fault is not None)
    wire.fault = None
    again = wire.client.send(command, HERE)
    assert again is not sent
    await wire.left(2)
    await wire.tell(posted(sent))
    answers = [await wire.client.answer(each, 60) for each in (sent, again)]
    assert [answer.outcome.replayed for answer in answers if answer] == [False, True]


async def test_what_may_be_decided_is_not_refused_for_certain_when_it_is_repeated(wire: Wire) -> None:
    await wire.link()
    wire.refusing = "p00"
    command = move()
    sent = wire.client.send(command, HERE)
    await eventually(lambda: sent.fault is not None)
    with pytest.raises(SendUnknown):
        await wire.client.call(command, HERE, 0.05)


async def test_what_left_before_one_was_lost_does_not_let_the_next_go_ahead(wire: Wire) -> None:
    await wire.link()
    [answered_late] = wire.send()
    await wire.left(1)
    wire.refusing = "p00"
    [lost] = wire.send()
    await eventually(lambda: lost.fault is not None)
    await wire.tell(posted(answered_late), owned=(0, 1), queue=0)
    [sent] = wire.send()
    with pytest.raises(Refused):
        await wire.client.answer(sent, 60)
    assert wire.ahead == [ids(answered_late), ids(lost)]


async def test_a_confirm_that_comes_after_another_was_lost_does_not_let_the_next_go_ahead(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wire.link()
    may_confirm, publish = asyncio.Event(), wire.publish

    async def confirmed_late(channel: object, message: Outgoing) -> None:
        is_first = not wire.envelopes
        await publish(channel, message)
        if is_first:
            await may_confirm.wait()

    monkeypatch.setattr(amqp, "publish", confirmed_late)
    [early] = wire.send()
    await wire.left(1)
    await wire.tell(posted(early), owned=(0, 1), queue=0)
    wire.fault = Refused("p00")
    [lost] = wire.send()
    await eventually(lambda: lost.fault is not None)
    wire.fault = None
    may_confirm.set()
    await eventually(lambda: wire.client.envelopes == 2)
    wire.send()
    await wire.left(3)
    assert wire.ahead == [ids(early), ids(lost)]


async def test_a_full_queue_is_found_by_what_went_ahead_and_refuses_the_rest_for_certain(wire: Wire) -> None:
    await wire.link()
    wire.refusing = "p00"
    [first] = wire.send()
    await wire.left(1)
    await wire.tell(owned=(0, 1), queue=None)  # its worker goes on speaking
    for _ in range(3):
        [sent] = wire.send()
        with pytest.raises(Refused):
            await wire.client.answer(sent, 60)
    assert wire.ahead == [ids(first)]
    # It has room again: one by the broker alone, and when that is confirmed and answered the next ahead.
    wire.refusing = ""
    [slow] = wire.send()
    await wire.left(5)
    await wire.tell(posted(slow), owned=(0, 1), queue=0)
    [fast] = wire.send()
    await wire.left(6)
    assert wire.ahead == [ids(first), ids(fast)]


async def test_an_answer_without_a_confirm_does_not_yet_let_others_go_ahead(wire: Wire) -> None:
    await wire.link()
    wire.refusing = "p00"
    wire.confirms.clear()
    [first] = wire.send()
    await wire.left(1)
    [second] = wire.send()
    await wire.left(2)
    await wire.tell(posted(first), owned=(0, 1), queue=0)
    wire.confirms.set()
    await eventually(lambda: second.fault is not None)
    await wire.tell(posted(second), owned=(0, 1), queue=0)
    wire.send()
    await wire.left(3)
    assert wire.ahead == [ids(first), ids(second)]


async def test_after_failures_as_many_go_ahead_as_before(wire: Wire) -> None:
    await wire.link()
    for _ in range(lines.UNCONFIRMED_MAX + 1):
        wire.fault = SendUnknown("late")
        ahead = len(wire.ahead)
        [lost] = wire.send()
        await eventually(lambda lost=lost: lost.fault is not None)
        assert len(wire.ahead) == ahead + 1
        wire.fault = None
        [sent] = wire.send()
        await eventually(lambda sent=sent: sent.command.id in wire.envelopes[-1])
        await wire.tell(posted(sent), owned=(0, 1), queue=0)


async def test_an_answer_is_an_answer_whatever_the_broker_did_with_the_copy(wire: Wire) -> None:
    await wire.link()
    wire.confirms.clear()
    [sent] = wire.send()
    await wire.left(1)
    await wire.tell(posted(sent), owned=(0, 1), queue=0)
    wire.fault = Refused("p00")
    wire.confirms.set()
    answer = await wire.client.answer(sent, 60)
    assert answer is not None
    assert answer.outcome.status == "posted"
    assert len(wire.envelopes) == 1


async def test_what_was_answered_is_not_sent_again_by_its_own_queue_when_another_refuses_it(wire: Wire) -> None:
    await wire.link()
    wire.confirms.clear()
    wire.refusing = "p00"
    there = wire.client.send(MAKE.move(account_in(1), account_in(0), 1), Partition(1))
    await wire.left(1)
    assert wire.keys == ["p00"]
    await wire.tell(posted(there), owned=(0, 1), queue=0)
    wire.confirms.set()
    await eventually(lambda: there.fault is not None)
    await wire.stays_at(1)


async def test_what_went_ahead_and_was_refused_goes_by_its_own_queue(wire: Wire) -> None:
    await wire.link()
    wire.refusing = "p00"
    there = wire.client.send(MAKE.move(account_in(1), account_in(0), 1), Partition(1))
    await wire.left(2)
    assert wire.keys == ["p00", "p01"]
    # Nobody is known to be heard by the first queue any more.
    assert wire.ahead == [ids(there)]
    waiting = asyncio.get_running_loop().create_task(wire.client.answer(there, 60))
    await wire.tell(posted(there))
    assert await waiting is not None
