"""The ledger client: what goes into an envelope, when it leaves, and who is told the outcome."""

import asyncio

import pytest

from shared.broker.channels import NotPublished, PublishFailed, PublishUnknown, QueueFull, Unroutable
from shared.ledger_client import client, send_queue
from shared.ledger_client.pending import PendingCommand
from shared.messages import Settled
from tests.builders import account_in
from tests.contract.conditions import eventually
from tests.unit.ledger_wire import HERE, MAKE, THERE, Wire, ids, posted, transfer


@pytest.mark.usefixtures("no_answer_is_late")
async def test_a_second_envelope_leaves_with_as_much_as_the_first_and_a_third_waits_for_an_answer(wire: Wire) -> None:
    first = wire.send(3)
    await wire.left(1)
    second = wire.send(2)
    await wire.stays_at(1)
    second += wire.send(1)
    await wire.left(2)
    third = wire.send(5)
    await wire.stays_at(2)
    await wire.reply(*(posted(each) for each in first))
    await wire.left(3)
    assert wire.envelopes == [ids(*envelope) for envelope in (first, second, third)]


@pytest.mark.usefixtures("no_answer_is_late")
async def test_what_is_less_than_the_one_in_flight_waits_for_its_answer(wire: Wire) -> None:
    [small] = wire.send()
    await wire.left(1)
    large = wire.send(4)
    await wire.left(2)
    gathered: list[PendingCommand] = []
    for _ in range(3):
        gathered += wire.send()
        await wire.stays_at(2)
    await wire.reply(posted(small))
    await wire.stays_at(2)
    await wire.reply(posted(large[-1]))
    await wire.left(3)
    assert wire.envelopes[2] == ids(*gathered)


async def test_an_answer_before_the_confirm_lets_the_next_envelope_go_with_the_confirm(wire: Wire) -> None:
    wire.confirms.clear()
    [first] = wire.send()
    await wire.left(1)
    await wire.reply(posted(first))
    [second] = wire.send()
    await wire.stays_at(1)
    wire.confirms.set()
    await wire.left(2)
    assert wire.envelopes[1] == ids(second)


async def test_an_envelope_that_is_never_answered_holds_up_the_next_for_a_bounded_time(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send_queue, "ANSWER_TIMEOUT_S", 0.01)
    wire.send(2)
    await wire.left(1)
    wire.send()
    await wire.left(2)


@pytest.mark.usefixtures("no_answer_is_late")
async def test_an_envelope_whose_sender_does_not_wait_is_answered_all_the_same(wire: Wire) -> None:
    first = wire.send(2)
    for pending in first:
        assert await wire.client.result(pending, 0.0) is None
    await wire.left(1)
    await eventually(lambda: wire.client.commands_pending == 0)
    wire.send()
    await wire.stays_at(1)
    await wire.reply(*(posted(pending) for pending in first))
    await wire.left(2)
    assert wire.client.outcomes_unmatched == len(first)


@pytest.mark.usefixtures("no_answer_is_late")
async def test_each_partition_has_envelopes_of_its_own_and_waits_for_no_other(wire: Wire) -> None:
    wire.send(2)
    await wire.left(1)
    wire.send()
    await wire.stays_at(1)
    wire.client.send(MAKE.transfer(account_in(1), account_in(0), 1), THERE)
    await wire.left(2)
    assert wire.keys == ["p00", "p01"]


async def test_an_envelope_that_is_too_large_leaves_as_several_messages_in_order(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ENVELOPE_BYTES_MAX", 1_000)
    pending = wire.send(8)
    await eventually(lambda: wire.client.envelopes_confirmed == len(wire.envelopes) > 1)
    await eventually(lambda: [each for envelope in wire.envelopes for each in envelope] == ids(*pending))


async def test_the_same_command_is_sent_once_and_all_who_wait_are_told(wire: Wire) -> None:
    command = transfer()
    sent = [wire.client.send(command, HERE) for _ in range(3)]
    assert sent[0] is sent[1] is sent[2]
    waiting = [asyncio.get_running_loop().create_task(wire.client.result(each, 60)) for each in sent]
    await wire.left(1)
    await wire.reply(posted(sent[0]))
    results = await asyncio.gather(*waiting)
    assert [result is not None and result.outcome.status for result in results] == ["posted"] * 3
    assert wire.client.commands_pending == 0
    assert wire.envelopes == [[command.id]]


async def test_the_same_id_with_other_content_is_another_command(wire: Wire) -> None:
    command = transfer()
    other = command.model_copy(update={"fingerprint": "f" * 32})
    first, second = wire.client.send(command, HERE), wire.client.send(other, HERE)
    assert first is not second
    await wire.reply(posted(first))
    assert first.outcome is not None
    assert second.outcome is None


@pytest.mark.parametrize("settled_first", [True, False])
async def test_outcome_and_settlement_may_come_in_either_order_and_twice(wire: Wire, *, settled_first: bool) -> None:
    [pending] = wire.send()
    waiting = asyncio.get_running_loop().create_task(wire.client.result(pending, 60))
    await wire.left(1)
    landed = (Settled(id=pending.command.id, partition=1, account="a"),)
    await wire.reply(*() if settled_first else (posted(pending, legs=(1,)),), settled=landed if settled_first else ())
    await asyncio.sleep(0)
    assert not waiting.done()
    await wire.reply(posted(pending, legs=(1,)), settled=landed)
    result = await waiting
    assert result is not None
    assert result.is_settled
    assert len(result.settled) == 1


async def test_a_wait_ends_with_the_time_and_leaves_nothing_behind(wire: Wire) -> None:
    [pending] = wire.send()
    assert await wire.client.result(pending, 0.01) is None
    assert wire.client.commands_pending == 0


@pytest.mark.parametrize("fault", [NotPublished("gone"), QueueFull("p00"), Unroutable("p00"), PublishUnknown("late")])
async def test_who_waits_is_told_at_once_how_a_publish_ended(wire: Wire, fault: PublishFailed) -> None:
    wire.fault = fault
    [pending] = wire.send()
    with pytest.raises(type(fault)) as raised:
        await wire.client.result(pending, 60)
    assert raised.value is fault
    assert wire.client.commands_pending == 0


@pytest.mark.usefixtures("no_answer_is_late")
async def test_an_envelope_whose_publish_failed_holds_nothing_up(wire: Wire) -> None:
    wire.fault = QueueFull("p00")
    wire.send(3)
    await wire.left(1)
    wire.fault = None
    [next_one] = wire.send()
    await wire.left(2)
    assert wire.envelopes[1] == ids(next_one)
    await eventually(lambda: wire.client.envelopes_confirmed == 1)


async def test_a_publish_that_fails_is_told_to_all_who_wait_unless_the_outcome_is_known(wire: Wire) -> None:
    wire.confirms.clear()
    wire.fault = PublishUnknown("no confirm")
    [lost], [told] = wire.send(), wire.send()
    await wire.left(1)
    loop = asyncio.get_running_loop()
    waiting = [loop.create_task(wire.client.result(each, 60)) for each in (lost, lost, told)]
    await asyncio.sleep(0)
    await wire.reply(posted(told))
    wire.confirms.set()
    *failed, known = await asyncio.gather(*waiting, return_exceptions=True)
    assert failed == [wire.fault] * 2
    assert not isinstance(known, BaseException)
    assert wire.client.commands_pending == 0


async def test_a_command_whose_publish_failed_is_sent_anew_when_it_is_repeated(wire: Wire) -> None:
    wire.fault = PublishUnknown("late")
    command = transfer()
    lost = wire.client.send(command, HERE)
    await eventually(lambda: lost.fault is not None)
    wire.fault = None
    again = wire.client.send(command, HERE)
    assert again is not lost
    await wire.left(2)
    await wire.reply(posted(again))
    result = await wire.client.result(again, 60)
    assert result is not None
    with pytest.raises(PublishUnknown):
        await wire.client.result(lost, 60)


async def test_settlements_are_taken_in_after_the_publish_of_a_decided_command_failed(wire: Wire) -> None:
    wire.confirms.clear()
    wire.fault = PublishUnknown("no confirm")
    [pending] = wire.send()
    await wire.left(1)
    waiting = asyncio.get_running_loop().create_task(wire.client.result(pending, 60))
    await asyncio.sleep(0)
    await wire.reply(posted(pending, legs=(1,)))
    wire.confirms.set()
    await eventually(lambda: pending.fault is not None)
    await wire.reply(settled=(Settled(id=pending.command.id, partition=1, account="a"),))
    result = await waiting
    assert result is not None
    assert result.is_settled
    assert wire.client.commands_pending == 0


async def test_more_than_the_client_may_hold_is_refused_and_not_sent(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PENDING_MAX", 2)
    wire.send(2)
    with pytest.raises(QueueFull):
        wire.send()


@pytest.mark.usefixtures("no_answer_is_late")
@pytest.mark.parametrize("missing", ["_channel", "_reply_to"])
async def test_without_a_broker_nothing_is_taken(wire: Wire, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(wire.client, missing, None)
    with pytest.raises(NotPublished):
        wire.send()
    assert wire.client.commands_pending == 0


@pytest.mark.usefixtures("no_answer_is_late")
async def test_the_same_id_in_two_queues_lets_each_go_with_its_own_answer(wire: Wire) -> None:
    command = transfer()
    other = command.model_copy(update={"fingerprint": "f" * 32})
    wire.send()
    wire.client.send(MAKE.transfer(account_in(1), account_in(0), 1), THERE)
    here, there = wire.client.send(command, HERE), wire.client.send(other, THERE)
    await wire.left(2)
    wire.send()
    wire.client.send(MAKE.transfer(account_in(1), account_in(0), 1), THERE)
    await wire.stays_at(2)
    await wire.reply(posted(here))
    await wire.left(3)
    await wire.stays_at(3)
    await wire.reply(posted(there))
    await wire.left(4)
