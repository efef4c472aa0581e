"""ports.Consumer and ports.Publisher: what the twin promises is what RabbitMQ does."""

import pytest

from services.ledger_worker.broker import consumer
from shared.domain.ids import Partition
from shared.messages import BatchEvent, EventOutcome, Outcome, Reply, Settled
from tests.builders import command_id
from tests.contract.brokers import ADDRESS, RabbitServer, Server
from tests.contract.conditions import eventually, eventually_async

P0, P1 = Partition(0), Partition(1)
# Below every heartbeat and time-out: what takes longer has waited for one of them.
CANCELLED_S_MAX = 2.0


async def test_deliveries_of_a_partition_come_in_order_with_all_that_came_with_them(server: Server) -> None:
    await server.publish(0, "a", "b", mac="signed")
    worker = await server.connect("one")
    await worker.consumer.open(P0)
    await server.publish(0, "c")
    await worker.receives("a", "b", "c")
    first, _, last = worker.deliveries
    assert (first.partition, first.mac, first.reply_to, first.redelivered, first.kind) == (
        0,
        "signed",
        ADDRESS,
        False,
        "cmd.v1",
    )
    assert last.mac is None
    assert worker.consumer.is_consuming(P0)
    assert not worker.consumer.is_consuming(P1)


async def test_what_is_not_acknowledged_goes_to_the_next_owner_in_order(server: Server) -> None:
    one, two = await server.connect("one"), await server.connect("two")
    await one.consumer.open(P0)
    await server.publish(0, *"abcde")
    await one.receives(*"abcde")
    for delivery in one.deliveries[:2]:
        one.consumer.acknowledge(delivery)
    await one.consumer.close(P0)
    await two.consumer.open(P0)
    await two.receives(*"cde")
    assert all(delivery.redelivered for delivery in two.deliveries)
    for delivery in two.deliveries:
        two.consumer.acknowledge(delivery)
    await two.consumer.close(P0)
    await one.consumer.open(P0)
    await server.publish(0, "f")
    await eventually(lambda: len(one.deliveries) > 5)
    assert one.bodies[5:] == ["f"]


async def test_an_acknowledgement_covers_all_deliveries_before_it_and_none_after(server: Server) -> None:
    one, two = await server.connect("one"), await server.connect("two")
    await one.consumer.open(P0)
    await server.publish(0, *"abcd")
    await one.receives(*"abcd")
    one.consumer.acknowledge(one.deliveries[2])
    await one.consumer.close(P0)
    await two.consumer.open(P0)
    await two.receives("d")


async def test_only_one_worker_at_a_time_is_given_a_partitions_deliveries(server: Server) -> None:
    one, two = await server.connect("one"), await server.connect("two")
    await one.consumer.open(P0)
    await eventually(lambda: one.consumer.is_consuming(P0))
    await server.publish(0, "a")
    await one.receives("a")
    await two.consumer.open(P0)
    await two.consumer.open(P1)
    await eventually(lambda: two.consumer.is_consuming(P0))
    await server.publish(0, "b")
    await server.publish(1, "other")
    await one.receives("a", "b")
    await two.receives("other")
    await one.consumer.close(P0)
    await two.receives("other", "a", "b")


async def test_an_acknowledgement_for_a_channel_that_is_gone_does_nothing(server: Server) -> None:
    worker = await server.connect("one")
    await worker.consumer.open(P0)
    await server.publish(0, "a", "b")
    await worker.receives("a", "b")
    old = worker.deliveries[:]
    await worker.consumer.close(P0)
    await worker.consumer.open(P0)
    await worker.receives("a", "b", "a", "b")
    for delivery in old:
        worker.consumer.acknowledge(delivery)
    await worker.consumer.close(P0)
    await worker.consumer.open(P0)
    await worker.receives("a", "b", "a", "b", "a", "b")


async def test_nothing_is_delivered_once_a_partition_was_closed(server: Server) -> None:
    one, two = await server.connect("one"), await server.connect("two")
    for _ in range(5):
        await one.consumer.open(P0)
        await server.publish(0, *"abcdefghij")
        closing = one.consumer.close(P0)
        await closing
        seen = len(one.deliveries)
        await two.consumer.open(P0)
        await eventually(lambda: len(two.deliveries) >= 10)
        assert len(one.deliveries) == seen
        for delivery in two.deliveries:
            two.consumer.acknowledge(delivery)
        await two.consumer.close(P0)
        assert two.bodies == list("abcdefghij")
        two.deliveries.clear()


async def test_a_partition_closed_while_it_is_opened_has_no_consumer_left(server: Server) -> None:
    one, two = await server.connect("one"), await server.connect("two")
    await one.consumer.open(P0)
    await one.consumer.close(P0)
    await two.consumer.open(P0)
    await server.publish(0, "a")
    await two.receives("a")


async def test_a_broken_channel_is_opened_again_and_gives_everything_again_in_order(server: Server) -> None:
    worker = await server.connect("one")
    await worker.consumer.open(P0)
    await server.publish(0, *"abc")
    await worker.receives(*"abc")
    await server.break_channel(worker, 0)
    await worker.receives(*"abc", *"abc")
    assert worker.channels_lost == [P0]
    assert [delivery.redelivered for delivery in worker.deliveries] == [False] * 3 + [True] * 3


async def test_what_a_new_channel_brings_is_acknowledged_on_it(server: Server) -> None:
    worker = await server.connect("one")
    await worker.consumer.open(P0)
    await server.publish(0, "a")
    await worker.receives("a")
    worker.consumer.acknowledge(worker.deliveries[0])
    await server.break_channel(worker, 0)
    await eventually(lambda: worker.channels_lost == [P0])
    await server.publish(0, "b")
    await eventually(lambda: worker.bodies[-1] == "b")
    for delivery in worker.deliveries[1:]:
        worker.consumer.acknowledge(delivery)
    await worker.consumer.close(P0)
    other = await server.connect("two")
    await other.consumer.open(P0)
    await server.publish(0, "c")
    await other.receives("c")


async def test_a_full_window_of_deliveries_is_acknowledged_at_once(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "ACK_DELAY_S_MAX", 3_600.0)  # not by the timer
    worker = await server.connect("one")
    await worker.consumer.open(P0)
    numbers = [str(number) for number in range(consumer.PREFETCH_ENVELOPES + 8)]
    await server.publish(0, *numbers)
    await eventually(lambda: len(worker.deliveries) >= consumer.PREFETCH_ENVELOPES)
    for delivery in worker.deliveries[: consumer.PREFETCH_ENVELOPES]:
        worker.consumer.acknowledge(delivery)
    await worker.receives(*numbers)


async def test_what_was_acknowledged_is_so_before_the_channel_is_closed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "ACK_DELAY_S_MAX", 3_600.0)
    one, two = await server.connect("one"), await server.connect("two")
    await one.consumer.open(P0)
    await server.publish(0, *"abc")
    await one.receives(*"abc")
    one.consumer.acknowledge(one.deliveries[0])
    await one.consumer.close(P0)
    await two.consumer.open(P0)
    await two.receives(*"bc")


async def test_a_queue_that_is_gone_is_consumed_again_once_it_is_declared_and_keeps_no_other_waiting(
    server: Server,
) -> None:
    worker = await server.connect("one")
    await worker.consumer.open(P0)
    await eventually(lambda: worker.consumer.is_consuming(P0))
    await server.delete_queue(0)
    await eventually(lambda: worker.channels_lost)
    await worker.consumer.open(P1)
    await server.publish(1, "other")
    await worker.receives("other")
    await server.declare()
    await server.publish(0, "a")
    await worker.receives("other", "a")


async def test_a_consumer_that_the_broker_cancels_costs_no_other_partition(server: Server) -> None:
    worker = await server.connect("one")
    for partition in (P0, P1):
        await worker.consumer.open(partition)
    await server.publish(1, "other")
    await worker.receives("other")
    await eventually(lambda: worker.consumer.is_consuming(P0))
    await server.delete_queue(0)
    await eventually(lambda: worker.channels_lost, CANCELLED_S_MAX)
    await server.declare()
    await server.publish(0, "a")
    await eventually(lambda: worker.bodies == ["other", "a"], CANCELLED_S_MAX)
    # More than once, if the broker still confirms the declaration of a queue that it is deleting.
    assert set(worker.channels_lost) == {P0}


async def test_a_reply_reaches_its_address_whole(server: Server) -> None:
    worker = await server.connect("one")
    reply = Reply(
        outcomes=(Outcome(id=command_id(), fingerprint="f" * 32, status="posted", balances={"a": 10**36}, legs=(1,)),),
        settled=(Settled(id=command_id(), partition=1, account="b", balance=-3),),
    )
    await worker.publisher.reply(ADDRESS, reply)
    await eventually(lambda: server.replies)
    assert server.replies == [reply]


async def test_a_reply_to_nobody_is_harmless(server: Server) -> None:
    worker = await server.connect("one")
    if isinstance(server, RabbitServer):
        await worker.publisher.reply("amq.gen-gone", Reply())
    await worker.publisher.reply(ADDRESS, Reply())
    await eventually(lambda: server.replies)


async def test_a_nudge_reaches_the_worker_that_consumes_the_destination(server: Server) -> None:
    one, two = await server.connect("one"), await server.connect("two")
    await one.consumer.open(P0)
    await two.consumer.open(P1)
    await eventually(lambda: one.consumer.is_consuming(P0) and two.consumer.is_consuming(P1))

    async def nudged() -> bool:
        await one.publisher.nudge(P0, P1, 17)
        return bool(two.nudges)

    assert await eventually_async(nudged)
    assert (one.nudges, two.nudges[0]) == ([], (P0, P1, 17))


async def test_a_dead_letter_is_a_copy_with_its_reason(server: Server) -> None:
    worker = await server.connect("one")
    await worker.consumer.open(P0)
    await server.publish(0, "rubbish")
    await worker.receives("rubbish")
    await worker.publisher.dead_letter(worker.deliveries[0], "nobody can read it")
    assert await server.dead_letters() == [(b"rubbish", "nobody can read it")]


async def test_every_event_that_was_announced_is_published_in_order(server: Server) -> None:
    worker = await server.connect("one")
    for batch in (1, 2, 3):
        outcome = EventOutcome(id=command_id(), kind="transfer.v1", status="posted", accounts=("a", "b"))
        worker.publisher.announce(P1, BatchEvent(batch=batch, recorded_at_us=batch, outcomes=(outcome,)))
    await eventually(lambda: sum(len(event.batches) for event in server.events) == 3)
    assert [batch.batch for event in server.events for batch in event.batches] == [1, 2, 3]
    assert {event.partition for event in server.events} == {1}
