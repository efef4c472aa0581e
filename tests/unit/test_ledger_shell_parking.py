"""What the ledger worker's shell sets aside for the operator: real teller and keeper between twins, virtual time."""

import pytest

from services.ledger_worker import deciding, telling
from services.ledger_worker.core.decision import Asking, Decision
from services.ledger_worker.core.line import Line
from shared.envelopes import envelope_mac
from shared.ids import Partition, partition_of
from shared.messages import Command, Reply
from tests.builders import account_in
from tests.property.mail import CLIENT, MAC_KEY
from tests.property.simulated_worker import PARTITIONS
from tests.twins.bus import Message
from tests.unit.ledger_scene import MAKE, Scene, play


def test_a_command_whose_own_queue_takes_nothing_is_parked_and_its_neighbours_go_on() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin(workers=2)
        away = await it.away()
        place = partition_of(away, PARTITIONS)
        it.broker.full.add(place)
        moved, far = MAKE.move(it.here, it.there, 1), MAKE.open(account_in(place))
        it.publish(moved, far, partition=Partition(0))
        await it.settled()
        [(queue, body, reason)] = it.broker.parked
        assert (queue, f"partition {place} takes nothing" in reason) == (0, True)
        assert moved.id in it.journal.operations
        assert far.id not in it.journal.operations
        # Its neighbours do not wait for it again.
        began_s = it.clock.monotonic_s()
        for _ in range(20):
            it.publish(MAKE.move(it.there, it.here, 1), MAKE.open(account_in(place)), partition=Partition(0))
        await it.settled()
        assert it.clock.monotonic_s() - began_s < telling.SENDING_ON_S_MAX
        assert sum("takes nothing" in reason for _, _, reason in it.broker.parked) == 21
        # What the operator sees is whole: sent again, what was decided is a repeat.
        it.broker.full.clear()
        it.broker.publish(queue, Message(body, envelope_mac(MAC_KEY, body), CLIENT))
        await it.settled()
        assert it.code(far) is None
        assert it.balance(it.here) == 999

    play(scene())


def test_the_copy_of_what_broke_the_core_is_parked_though_its_line_is_given_back_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        command = MAKE.move(it.here, it.there, 1)
        decide, reply = deciding.decide, worker.bus.reply

        def breaks(line: Line, asked: Command, asking: Asking) -> Decision:
            if asked.id == command.id and command.id not in line.world.recent:
                raise ZeroDivisionError
            return decide(line, asked, asking)

        async def given_back(reply_to: str, told: Reply) -> None:
            await reply(reply_to, told)
            if not it.broker.parked:
                await worker.teller.give_back(Partition(0))

        monkeypatch.setattr(deciding, "decide", breaks)
        monkeypatch.setattr(worker.bus, "reply", given_back)
        await it.until_done(command)
        assert it.code(command) == "internal_error"
        [(_, _, reason)] = it.broker.parked
        assert "ZeroDivisionError" in reason

    play(scene())
