"""What the ledger worker puts aside as dead letters: real commit loop between twins, in virtual time."""

import asyncio

import pytest

from services.ledger_worker.core.outcomes import CommandContext, Decision
from services.ledger_worker.core.state import PartitionState
from services.ledger_worker.engine import apply
from shared.domain.ids import Partition
from shared.messages import Command, CommandEnvelope, Reply
from tests.builders import account_in
from tests.property.envelopes import envelope_message
from tests.property.random_commands import REFUSED
from tests.property.simulated_worker import TTL_S
from tests.twins.faults import Fault
from tests.unit.ledger_scene import MAKE, PARTITIONS, Scene, play

P0 = Partition(0)


def test_an_envelope_with_a_command_of_another_partition_is_a_dead_letter_and_its_neighbours_go_on() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        before, after = MAKE.withdrawal(it.here, 1), MAKE.withdrawal(it.here, 2)
        misplaced = [MAKE.withdrawal(it.here, 100), MAKE.open(account_in(1))]
        it.publish(before)
        it.broker.publish(P0, envelope_message(misplaced))
        it.publish(after)
        await it.settled()
        [(queue, body, reason)] = it.broker.dead_letters
        assert (queue, f"command {misplaced[1].id} belongs to another partition" in reason) == (P0, True)
        assert CommandEnvelope.model_validate_json(body).commands == tuple(misplaced)
        assert not any(command.id in it.journal.operations for command in misplaced)
        assert (it.code(before), it.code(after), it.balance(it.here)) == (None, None, 997)

    play(scene())


def test_an_envelope_is_acknowledged_once_its_dead_letter_is_confirmed() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        worker.connection.dead_letters_refused = 3
        it.publisher.publish_unsigned(P0)
        command = MAKE.withdrawal(it.here, 1)
        await it.until_done(command)
        assert not it.lost
        assert len(it.broker.dead_letters) == 1
        assert it.code(command) is None

    play(scene())


def test_the_copy_of_what_broke_the_core_is_a_dead_letter_though_its_partition_is_lost_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        poison = MAKE.transfer(it.here, it.there, 1)
        decide, reply = apply.decide, worker.connection.reply

        def breaks(partition: PartitionState, command: Command, context: CommandContext) -> Decision:
            if command.id == poison.id and poison.id not in partition.ledger.recent:
                raise ZeroDivisionError
            return decide(partition, command, context)

        async def lost(reply_to: str, told: Reply) -> None:
            monkeypatch.setattr(worker.connection, "reply", reply)
            await reply(reply_to, told)
            await worker.loop.abandon(P0)

        monkeypatch.setattr(apply, "decide", breaks)
        monkeypatch.setattr(worker.connection, "reply", lost)
        await it.until_done(poison)
        assert it.code(poison) == "internal_error"
        [(_, _, reason)] = it.broker.dead_letters
        assert poison.id in reason

    play(scene())


def test_a_dead_letter_that_cannot_be_published_keeps_its_partition_waiting_and_no_other() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        worker.connection.dead_letters_refused = 10**9  # its queue is deleted, say
        it.publisher.publish_unsigned(P0)
        await it.until(lambda: it.journal.owners[0].waiting_for is not None, "nobody is told")
        assert "dead letter" in str(it.journal.owners[0].waiting_for)
        waiting, others = MAKE.withdrawal(it.here, 1), [MAKE.withdrawal(it.there, 1) for _ in range(5)]
        for command in (waiting, *others):
            it.publish(command)
        await it.until(lambda: all(it.is_replied(command) for command in others), "the others wait")
        await asyncio.sleep(3 * TTL_S)
        assert not it.is_replied(waiting)
        assert [row.owner for row in it.journal.owners] == [worker.name] * PARTITIONS
        assert [partition for partition, row in enumerate(it.journal.owners) if row.waiting_for is not None] == [0]
        worker.connection.dead_letters_refused = 0
        await it.until(lambda: it.is_replied(waiting), "it does not go on")
        await it.settled()
        await it.until(lambda: it.journal.owners[0].waiting_for is None, "it says that it waits")
        assert len(it.broker.dead_letters) == 1
        assert not it.lost

    play(scene())


@pytest.mark.parametrize("breaks_core", [True, False])
def test_who_gives_a_partition_back_while_its_dead_letter_is_refused_leaves_it_to_the_next_owner(
    *, breaks_core: bool
) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [leaving] = it.workers
        leaving.connection.dead_letters_refused = 10**9
        poison, behind = MAKE.withdrawal(it.here, 1), MAKE.withdrawal(it.here, 1)
        if breaks_core:
            it.publish(poison.model_copy(update={"reference": REFUSED}), behind)
        else:
            it.publisher.publish_unsigned(P0)
        it.publish(behind)
        await it.until(lambda: it.journal.owners[0].waiting_for is not None, "it does not wait")
        it.start()
        it.workers.remove(leaving)
        async with asyncio.timeout(TTL_S):
            await leaving.stop()
        assert leaving.name not in it.owners()
        assert it.broker.dead_letters == []
        await it.settled()
        assert len(it.broker.dead_letters) == 1
        assert it.code(behind) is None

    play(scene())


def test_a_partition_whose_queue_is_gone_says_that_it_is_not_consumed() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        it.broker.delete(P0)
        await it.until(lambda: it.journal.owners[0].waiting_for == "its queue is not consumed", "nobody is told")
        it.broker.declare(P0)
        await it.until(lambda: it.journal.owners[0].waiting_for is None, "it says so though it is consumed")

    play(scene())


def test_a_partition_that_decides_nothing_says_since_when() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        worker.store.fail_next("commit", *[Fault.UNAVAILABLE] * 1_000)
        command = MAKE.withdrawal(it.here, 1)
        it.publish(command)
        await it.until(lambda: "has waited for" in str(it.journal.owners[0].waiting_for), "nobody is told")
        # Nothing waits there, but nothing would be decided either.
        assert "has finished nothing for" in str(it.journal.owners[1].waiting_for)
        worker.store.script.clear()
        await it.settled()
        await it.until(lambda: it.journal.owners[0].waiting_for is None, "it says that it waits")

    play(scene())
