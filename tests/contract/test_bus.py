"""ports.Bus: what the twin promises is what RabbitMQ does."""

from collections.abc import AsyncIterator

import pytest

from services.ledger_worker import acknowledgements
from services.ledger_worker.core.line import World
from services.ledger_worker.intake import EnvelopeReader
from shared.amqp import Refused
from shared.ids import Partition
from shared.messages import BatchEvent, Outcome, Reply, Settled
from shared.messages.events import EventOutcome
from tests.builders import SECRET, Commands, account_in, command_id
from tests.contract.conditions import eventually, eventually_async
from tests.contract.rooms import ADDRESS, PARTITIONS, MemoryRoom, RabbitRoom, Room

P0, P1 = Partition(0), Partition(1)


@pytest.fixture(params=["twin", "rabbitmq"])
def room_made(request: pytest.FixtureRequest) -> Room:
    return MemoryRoom() if request.param == "twin" else RabbitRoom(request.getfixturevalue("broker"))


@pytest.fixture
async def room(room_made: Room) -> AsyncIterator[Room]:
    await room_made.open()
    yield room_made
    await room_made.close()


async def test_deliveries_of_a_partition_come_in_order_with_all_that_came_with_them(room: Room) -> None:
    await room.publish(0, "a", "b", mac="signed")
    seat = await room.seat("one")
    await seat.bus.open(P0)
    await room.publish(0, "c")
    await seat.receives("a", "b", "c")
    first, _, last = seat.delivered
    assert (first.partition, first.mac, first.reply_to, first.redelivered, first.kind) == (
        0,
        "signed",
        ADDRESS,
        False,
        "cmd.v1",
    )
    assert last.mac is None
    assert seat.bus.consumes(P0)
    assert not seat.bus.consumes(P1)


async def test_what_is_not_acknowledged_goes_to_the_next_owner_in_order(room: Room) -> None:
    one, two = await room.seat("one"), await room.seat("two")
    await one.bus.open(P0)
    await room.publish(0, *"abcde")
    await one.receives(*"abcde")
    for done in one.delivered[:2]:
        one.bus.acknowledge(done)
    await one.bus.close(P0)
    await two.bus.open(P0)
    await two.receives(*"cde")
    assert all(inbound.redelivered for inbound in two.delivered)
    for done in two.delivered:
        two.bus.acknowledge(done)
    await two.bus.close(P0)
    await one.bus.open(P0)
    await room.publish(0, "f")
    await eventually(lambda: len(one.delivered) > 5)
    assert one.bodies[5:] == ["f"]


async def test_only_one_worker_at_a_time_is_given_a_partitions_deliveries(room: Room) -> None:
    one, two = await room.seat("one"), await room.seat("two")
    await one.bus.open(P0)
    await eventually(lambda: one.bus.consumes(P0))
    await room.publish(0, "a")
    await one.receives("a")
    await two.bus.open(P0)
    await two.bus.open(P1)
    await eventually(lambda: two.bus.consumes(P0))
    await room.publish(0, "b")
    await room.publish(1, "other")
    await one.receives("a", "b")
    await two.receives("other")
    await one.bus.close(P0)
    await two.receives("other", "a", "b")


async def test_an_acknowledgement_for_a_channel_that_is_gone_does_nothing(room: Room) -> None:
    seat = await room.seat("one")
    await seat.bus.open(P0)
    await room.publish(0, "a", "b")
    await seat.receives("a", "b")
    old = seat.delivered[:]
    await seat.bus.close(P0)
    await seat.bus.open(P0)
    await seat.receives("a", "b", "a", "b")
    for done in old:
        seat.bus.acknowledge(done)
    await seat.bus.close(P0)
    await seat.bus.open(P0)
    await seat.receives("a", "b", "a", "b", "a", "b")


async def test_nothing_is_delivered_once_a_partition_was_closed(room: Room) -> None:
    one, two = await room.seat("one"), await room.seat("two")
    for _ in range(5):
        await one.bus.open(P0)
        await room.publish(0, *"abcdefghij")
        closing = one.bus.close(P0)
        await closing
        seen = len(one.delivered)
        await two.bus.open(P0)
        await eventually(lambda: len(two.delivered) >= 10)
        assert len(one.delivered) == seen
        for done in two.delivered:
            two.bus.acknowledge(done)
        await two.bus.close(P0)
        assert two.bodies == list("abcdefghij")
        two.delivered.clear()


async def test_a_partition_closed_while_it_is_opened_has_no_consumer_left(room: Room) -> None:
    one, two = await room.seat("one"), await room.seat("two")
    await one.bus.open(P0)
    await one.bus.close(P0)
    await two.bus.open(P0)
    await room.publish(0, "a")
    await two.receives("a")


async def test_a_broken_channel_is_opened_again_and_gives_everything_again_in_order(room: Room) -> None:
    seat = await room.seat("one")
    await seat.bus.open(P0)
    await room.publish(0, *"abc")
    await seat.receives(*"abc")
    await room.break_channel(seat, 0)
    await seat.receives(*"abc", *"abc")
    assert seat.lost == [P0]
    assert [inbound.redelivered for inbound in seat.delivered] == [False] * 3 + [True] * 3


async def test_what_a_new_channel_brings_is_acknowledged_on_it(room: Room) -> None:
    seat = await room.seat("one")
    await seat.bus.open(P0)
    await room.publish(0, "a")
    await seat.receives("a")
    seat.bus.acknowledge(seat.delivered[0])
    await room.break_channel(seat, 0)
    await eventually(lambda: seat.lost == [P0])
    await room.publish(0, "b")
    await eventually(lambda: seat.bodies[-1] == "b")
    for done in seat.delivered[1:]:
        seat.bus.acknowledge(done)
    await seat.bus.close(P0)
    other = await room.seat("two")
    await other.bus.open(P0)
    await room.publish(0, "c")
    await other.receives("c")


async def test_what_is_done_before_others_is_acknowledged_after_them(room: Room) -> None:
    one, two = await room.seat("one"), await room.seat("two")
    await one.bus.open(P0)
    await room.publish(0, *"abcd")
    await one.receives(*"abcd")
    for done in (one.delivered[3], one.delivered[0], one.delivered[2]):
        one.bus.acknowledge(done)
    await one.bus.close(P0)
    await two.bus.open(P0)
    await two.receives(*"bcd")


async def test_a_full_window_of_deliveries_is_acknowledged_at_once(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acknowledgements, "OWED_S_MAX", 3_600.0)  # not by the timer
    seat = await room.seat("one")
    await seat.bus.open(P0)
    numbers = [str(number) for number in range(acknowledgements.PREFETCH_ENVELOPES + 8)]
    await room.publish(0, *numbers)
    await eventually(lambda: len(seat.delivered) >= acknowledgements.PREFETCH_ENVELOPES)
    for done in seat.delivered[: acknowledgements.PREFETCH_ENVELOPES]:
        seat.bus.acknowledge(done)
    await seat.receives(*numbers)


async def test_what_is_owed_is_acknowledged_before_the_channel_is_closed(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acknowledgements, "OWED_S_MAX", 3_600.0)
    one, two = await room.seat("one"), await room.seat("two")
    await one.bus.open(P0)
    await room.publish(0, *"abc")
    await one.receives(*"abc")
    one.bus.acknowledge(one.delivered[0])
    await one.bus.close(P0)
    await two.bus.open(P0)
    await two.receives(*"bc")


async def test_a_queue_that_is_gone_is_consumed_again_once_it_is_declared_and_keeps_no_other_waiting(
    room: Room,
) -> None:
    seat = await room.seat("one")
    await seat.bus.open(P0)
    await eventually(lambda: seat.bus.consumes(P0))
    await room.delete_queue(0)
    await eventually(lambda: seat.lost == [P0])
    await seat.bus.open(P1)
    await room.publish(1, "other")
    await seat.receives("other")
    await room.declare()
    await room.publish(0, "a")
    await seat.receives("other", "a")


async def test_a_reply_reaches_its_address_whole(room: Room) -> None:
    seat = await room.seat("one")
    reply = Reply(
        outcomes=(Outcome(id=command_id(), fingerprint="f" * 32, status="posted", balances={"a": 10**36}, legs=(1,)),),
        settled=(Settled(id=command_id(), partition=1, account="b", balance=-3),),
        worker="one",
    )
    await seat.bus.reply(ADDRESS, reply)
    await eventually(lambda: room.replies)
    assert room.replies == [reply]


async def test_a_reply_to_nobody_is_harmless(room: Room) -> None:
    seat = await room.seat("one")
    if isinstance(room, RabbitRoom):
        await seat.bus.reply("amq.gen-gone", Reply())
    await seat.bus.reply(ADDRESS, Reply(worker="after"))
    await eventually(lambda: room.replies)


async def test_a_nudge_reaches_the_worker_that_consumes_the_destination(room: Room) -> None:
    one, two = await room.seat("one"), await room.seat("two")
    await one.bus.open(P0)
    await two.bus.open(P1)
    await eventually(lambda: one.bus.consumes(P0) and two.bus.consumes(P1))

    async def nudged() -> bool:
        await one.bus.nudge(P0, P1)
        return bool(two.nudged)

    assert await eventually_async(nudged)
    assert set(two.nudged) == {P1}
    assert one.nudged == []


async def test_what_is_sent_on_comes_to_the_queue_of_its_partition_as_if_its_sender_had_put_it_there(
    room: Room,
) -> None:
    one, two = await room.seat("one"), await room.seat("two")
    await two.bus.open(P1)
    make = Commands()
    commands = [make.move(account_in(1), account_in(0), 1) for _ in range(2)]
    await one.bus.send_on(P1, ADDRESS, commands)
    await eventually(lambda: two.delivered)
    [inbound] = two.delivered
    reader = EnvelopeReader(World(PARTITIONS), SECRET)
    reader.verify(inbound)
    assert reader.read(inbound) == [(P1, command) for command in commands]
    assert inbound.reply_to == ADDRESS


async def test_what_a_full_queue_does_not_take_is_refused(room: Room) -> None:
    one = await room.seat("one")
    await room.fill(1)
    with pytest.raises(Refused):
        await one.bus.send_on(P1, ADDRESS, [Commands().move(account_in(1), account_in(0), 1)])


async def test_what_is_parked_is_a_copy_with_its_reason(room: Room) -> None:
    seat = await room.seat("one")
    await seat.bus.open(P0)
    await room.publish(0, "rubbish")
    await seat.receives("rubbish")
    await seat.bus.park(seat.delivered[0], "nobody can read it")
    assert await room.parked() == [(b"rubbish", "nobody can read it")]


async def test_every_event_that_was_announced_is_published_in_order(room: Room) -> None:
    seat = await room.seat("one")
    for batch in (1, 2, 3):
        outcome = EventOutcome(id=command_id(), kind="transfer.v1", status="posted", accounts=("a", "b"))
        seat.bus.announce(P1, BatchEvent(batch=batch, recorded_at_us=batch, outcomes=(outcome,)))
    await eventually(lambda: sum(len(event.batches) for event in room.events) == 3)
    assert [batch.batch for event in room.events for batch in event.batches] == [1, 2, 3]
    assert {event.partition for event in room.events} == {1}
