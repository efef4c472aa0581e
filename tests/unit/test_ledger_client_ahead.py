"""The client of the ledger: what goes ahead of the broker, and what does not."""

import pytest

from shared import courier, lines
from shared.amqp import NotSent
from shared.ids import Partition
from shared.sending import Sent
from tests.builders import account_in
from tests.contract.conditions import eventually
from tests.unit.ledger_wire import HERE, MAKE, Wire, ids, posted

pytestmark = pytest.mark.usefixtures("no_answer_is_late")


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

    def offer(worker: str, reply_to: str, message: bytes) -> bool:
        """The link ends with the first; the next envelope is ready before anything else has its turn."""
        is_ahead = wire.offer(worker, reply_to, message)
        wire.linked = ""
        second.extend(wire.send(0 if second else 1))
        return is_ahead

    monkeypatch.setattr(wire.client._links, "offer", offer)
    first = wire.send()
    await wire.left(2)
    assert wire.envelopes == [ids(*first), ids(*second)]
    assert wire.ahead == [ids(*first)]


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
