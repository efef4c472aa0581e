"""What the ledger worker puts aside as dead letters: real commit loop between twins, in virtual time."""

import pytest

from services.ledger_worker.core.outcomes import CommandContext, Decision
from services.ledger_worker.core.state import PartitionState
from services.ledger_worker.engine import apply
from shared.domain.ids import Partition
from shared.messages import Command, CommandEnvelope, Reply
from tests.builders import account_in
from tests.property.envelopes import envelope_message
from tests.unit.ledger_scene import MAKE, Scene, play

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


def test_the_copy_of_what_broke_the_core_is_a_dead_letter_though_its_partition_is_given_back_meanwhile(
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

        async def given_back(reply_to: str, told: Reply) -> None:
            await reply(reply_to, told)
            if not it.broker.dead_letters:
                await worker.loop.give_back(P0)

        monkeypatch.setattr(apply, "decide", breaks)
        monkeypatch.setattr(worker.connection, "reply", given_back)
        await it.until_done(poison)
        assert it.code(poison) == "internal_error"
        [(_, _, reason)] = it.broker.dead_letters
        assert "ZeroDivisionError" in reason

    play(scene())
