"""The client of the ledger: what goes ahead of the broker, and what becomes of it when the broker does not take it."""

import asyncio

import pytest

from shared import courier, lines
from shared.amqp import BusError, NotSent, Refused, SendUnknown, Unroutable
from shared.ids import Partition
from shared.sending import Sent
from tests.builders import account_in
from tests.contract.conditions import eventually
from tests.unit.ledger_wire import HERE, MAKE, Wire, posted


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
@pytest.mark.parametrize("linked", ["one", ""])
async def test_of_what_went_ahead_nothing_is_certain_that_the_broker_did_not_take(
    wire: Wire, fault: BusError, linked: str
) -> None:
    await wire.link()
    wire.linked, wire.fault = linked, fault
    [sent] = wire.send()
    expected = SendUnknown if linked else type(fault)
    with pytest.raises(expected) as raised:
        await wire.client.answer(sent, 60)
    assert type(raised.value) is expected
    assert wire.client.in_flight == 0


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
