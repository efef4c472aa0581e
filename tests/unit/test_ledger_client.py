"""The client of the ledger: what goes into an envelope, when it leaves, and who hears of the outcome."""

import asyncio

import pytest

from shared import lines
from shared.amqp import SendUnknown
from shared.ids import Partition
from shared.messages import Settled
from shared.sending import Sent
from tests.builders import account_in
from tests.contract.conditions import eventually
from tests.unit.ledger_wire import HERE, MAKE, Wire, move, posted


async def test_a_second_envelope_leaves_with_as_much_as_the_first_and_a_third_waits_for_an_answer(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "ANSWER_S_MAX", 3_600.0)
    first = wire.send(3)
    await wire.left(1)
    second = wire.send(2)
    await wire.stays_at(1)
    second += wire.send(1)
    await wire.left(2)
    third = wire.send(5)
    await wire.stays_at(2)
    await wire.tell(*(posted(each) for each in first))
    await wire.left(3)
    assert wire.envelopes == [[each.command.id for each in envelope] for envelope in (first, second, third)]


async def test_what_is_less_than_the_one_under_way_waits_for_its_answer(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "ANSWER_S_MAX", 3_600.0)
    [small] = wire.send()
    await wire.left(1)
    large = wire.send(4)
    await wire.left(2)
    gathered: list[Sent] = []
    for _ in range(3):
        gathered += wire.send()
        await wire.stays_at(2)
    await wire.tell(posted(small))
    await wire.stays_at(2)
    await wire.tell(posted(large[-1]))
    await wire.left(3)
    assert wire.envelopes[2] == [each.command.id for each in gathered]


async def test_an_answer_before_the_confirm_lets_the_next_envelope_go_with_the_confirm(wire: Wire) -> None:
    wire.confirms.clear()
    [first] = wire.send()
    await wire.left(1)
    await wire.tell(posted(first))
    [second] = wire.send()
    await asyncio.sleep(0)
    assert len(wire.envelopes) == 1
    wire.confirms.set()
    await wire.left(2)
    assert wire.envelopes[1] == [second.command.id]


async def test_an_envelope_that_is_never_answered_holds_up_the_next_for_a_bounded_time(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "ANSWER_S_MAX", 0.01)
    wire.send(2)
    await wire.left(1)
    wire.send()
    await wire.left(2)


async def test_an_envelope_whose_sender_does_not_wait_is_answered_all_the_same(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "ANSWER_S_MAX", 3_600.0)
    first = wire.send(2)
    for sent in first:
        assert await wire.client.answer(sent, 0.0) is None
    assert wire.client.in_flight == 0
    await wire.left(1)
    wire.send()
    await wire.stays_at(1)
    await wire.tell(*(posted(sent) for sent in first))
    await wire.left(2)
    assert wire.client.replies_unmatched == len(first)


async def test_the_same_command_is_sent_once_and_all_who_wait_hear_of_it(wire: Wire) -> None:
    command = move()
    sent = [wire.client.send(command, HERE) for _ in range(3)]
    assert sent[0] is sent[1] is sent[2]
    waiting = [asyncio.get_running_loop().create_task(wire.client.answer(each, 60)) for each in sent]
    await wire.left(1)
    await wire.tell(posted(sent[0]))
    answers = await asyncio.gather(*waiting)
    assert [answer is not None and answer.outcome.status for answer in answers] == ["posted"] * 3
    assert wire.client.in_flight == 0
    assert wire.envelopes == [[command.id]]


async def test_the_same_id_with_other_content_is_another_question(wire: Wire) -> None:
    command = move()
    other = command.model_copy(update={"fingerprint": "f" * 32})
    first, second = wire.client.send(command, HERE), wire.client.send(other, HERE)
    assert first is not second
    await wire.tell(posted(first))
    assert first.outcome is not None
    assert second.outcome is None


@pytest.mark.parametrize("settled_first", [True, False])
async def test_outcome_and_settlement_may_come_in_either_order_and_twice(wire: Wire, *, settled_first: bool) -> None:
    [sent] = wire.send()
    waiting = asyncio.get_running_loop().create_task(wire.client.answer(sent, 60))
    await wire.left(1)
    landed = (Settled(id=sent.command.id, partition=1, account="a"),)
    await wire.tell(*() if settled_first else (posted(sent, legs=(1,)),), settled=landed if settled_first else ())
    await asyncio.sleep(0)
    assert not waiting.done()
    await wire.tell(posted(sent, legs=(1,)), settled=landed)
    answer = await waiting
    assert answer is not None
    assert answer.is_settled
    assert len(answer.settled) == 1


async def test_a_wait_ends_with_the_time_and_leaves_nothing_behind(wire: Wire) -> None:
    [sent] = wire.send()
    assert await wire.client.answer(sent, 0.01) is None
    assert wire.client.in_flight == 0


async def test_a_publish_that_fails_is_told_to_all_who_wait_unless_the_outcome_is_known(wire: Wire) -> None:
    wire.confirms.clear()
    wire.fault = SendUnknown("no confirm")
    [lost], [told] = wire.send(), wire.send()
    await wire.left(1)
    loop = asyncio.get_running_loop()
    waiting = [loop.create_task(wire.client.answer(each, 60)) for each in (lost, lost, told)]
    await asyncio.sleep(0)
    await wire.tell(posted(told))
    wire.confirms.set()
    *failed, known = await asyncio.gather(*waiting, return_exceptions=True)
    assert failed == [wire.fault] * 2
    assert not isinstance(known, BaseException)
    assert wire.client.in_flight == 0


async def test_legs_are_heard_of_after_the_publish_of_a_decided_command_failed(wire: Wire) -> None:
    wire.confirms.clear()
    wire.fault = SendUnknown("no confirm")
    [sent] = wire.send()
    await wire.left(1)
    waiting = asyncio.get_running_loop().create_task(wire.client.answer(sent, 60))
    await asyncio.sleep(0)
    await wire.tell(posted(sent, legs=(1,)))
    wire.confirms.set()
    await eventually(lambda: sent.fault is not None)
    await wire.tell(settled=(Settled(id=sent.command.id, partition=1, account="a"),))
    answer = await waiting
    assert answer is not None
    assert answer.is_settled
    assert wire.client.in_flight == 0


async def test_the_same_id_in_two_lines_lets_each_go_with_its_own_answer(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "ANSWER_S_MAX", 3_600.0)
    command = move()
    other = command.model_copy(update={"fingerprint": "f" * 32})
    wire.send()
    wire.client.send(MAKE.move(account_in(1), account_in(0), 1), Partition(1))
    here, there = wire.client.send(command, HERE), wire.client.send(other, Partition(1))
    await wire.left(2)
    wire.send()
    wire.client.send(MAKE.move(account_in(1), account_in(0), 1), Partition(1))
    await wire.stays_at(2)
    await wire.tell(posted(here))
    await wire.left(3)
    await wire.stays_at(3)
    await wire.tell(posted(there))
    await wire.left(4)
