"""The client of the ledger: what goes ahead of the broker, and what becomes of it when the broker does not take it."""

import asyncio

import pytest

from shared import courier, lines
from shared.amqp import BusError, NotSent, Refused, SendUnknown, Unroutable
from shared.ids import Partition
from shared.sending import Sent
from tests.builders import account_in
from tests.contract.conditions import eventually
from tests.unit.ledger_wire import HERE, MAKE, Wire, move, posted


@pytest.fixture(autouse=True)
def _no_answer_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "ANSWER_S_MAX", 3_600.0)


def ids(*sent: Sent) -> list[str]:
    return [each.command.id for each in sent]


async def test_what_goes_ahead_is_published_as_well(wire: Wire) -> None:
    assert wire.client.envelopes_ahead == 0
    await wire.link()
    sent = wire.send(3)
    await wire.left(1)
    assert wire.ahead == wire.envelopes == [ids(*sent)]
    assert wire.client.envelopes_ahead == 1
    assert all(each.went_ahead for each in sent)


async def test_what_went_ahead_and_was_answered_lets_the_next_leave_before_the_confirm(wire: Wire) -> None:
    await wire.link()
    wire.confirms.clear()
    for number in range(1, 4):
        [sent] = wire.send()
        await wire.left(number)
        await wire.tell(posted(sent), owned=(0, 1), queue=0)
    assert wire.client.in_flight == 3  # nobody has asked for their answers
    assert len(wire.ahead) == 3


async def test_a_broker_that_is_far_behind_is_waited_for(wire: Wire) -> None:
    await wire.link()
    wire.confirms.clear()
    for number in range(1, lines.UNCONFIRMED_MAX + 2):
        [sent] = wire.send()
        await wire.left(number)
        await wire.tell(posted(sent), owned=(0, 1), queue=0)
    assert len(wire.ahead) == lines.UNCONFIRMED_MAX
    wire.send()
    await wire.stays_at(lines.UNCONFIRMED_MAX + 1)
    wire.confirms.set()
    await wire.left(lines.UNCONFIRMED_MAX + 2)
    await eventually(lambda: len(wire.ahead) == lines.UNCONFIRMED_MAX + 1)


async def test_nothing_overtakes_what_is_under_way_by_the_broker_alone(wire: Wire) -> None:
    await wire.link()
    wire.linked = ""
    [slow] = wire.send()
    await wire.left(1)
    wire.linked = "one"
    [beside] = wire.send()
    await wire.left(2)
    assert wire.ahead == []
    await wire.tell(posted(slow), posted(beside), owned=(0, 1), queue=0)
    [fast] = wire.send()
    await wire.left(3)
    assert wire.ahead == [ids(fast)]


async def test_what_is_for_another_worker_or_for_nobody_known_does_not_go_ahead(wire: Wire) -> None:
    await wire.link()
    wire.client.send(MAKE.move(account_in(2), account_in(0), 1), Partition(2))
    await wire.left(1)
    wire.linked = "another"
    wire.send()
    await wire.left(2)
    assert wire.ahead == []


async def test_an_envelope_in_several_messages_does_not_go_ahead(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    await wire.link()
    monkeypatch.setattr(courier, "ENVELOPE_BYTES_MAX", 1_000)
    sent = wire.send(8)
    await wire.left(2)
    assert wire.ahead == []
    await eventually(lambda: [each for envelope in wire.envelopes for each in envelope] == ids(*sent))


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
    assert all(answer is not None for answer in answers)


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


async def test_what_cannot_be_published_does_not_go_ahead(wire: Wire) -> None:
    await wire.link()
    wire.can_publish, wire.fault = False, NotSent("gone")
    [sent] = wire.send()
    with pytest.raises(NotSent):
        await wire.client.answer(sent, 60)
    assert wire.ahead == []


async def test_envelopes_are_published_in_their_order_whether_or_not_they_go_ahead(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wire.link()
    second: list[Sent] = []

    def offer(worker: str, message: bytes) -> bool:
        """The link ends with the first; the next envelope is ready before anything else has its turn."""
        is_ahead = wire.offer(worker, message)
        wire.linked = ""
        second.extend(wire.send(0 if second else 1))
        return is_ahead

    monkeypatch.setattr(wire.client._links, "offer", offer)
    first = wire.send()
    await wire.left(2)
    assert wire.envelopes == [ids(*first), ids(*second)]
    assert wire.ahead == [ids(*first)]


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


async def test_once_an_answer_is_late_nothing_goes_ahead_until_a_reply_says_who_decides(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wire.link()
    monkeypatch.setattr(lines, "ANSWER_S_MAX", 0.01)
    [late] = wire.send()
    await eventually(lambda: wire.courier._routes.worker(HERE) is None)
    wire.send()
    await wire.left(2)
    assert wire.ahead == [ids(late)]
    await wire.tell(posted(late), owned=(0, 1), queue=0)
    assert wire.courier._routes.worker(HERE) == "one"
