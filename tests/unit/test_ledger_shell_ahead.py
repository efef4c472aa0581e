"""The ledger worker's shell when envelopes come ahead of the broker: real teller between twins, virtual time."""

import asyncio

from shared.ids import Partition
from tests.unit.ledger_scene import MAKE, Scene, play


def test_an_envelope_that_came_ahead_is_decided_before_the_broker_has_it_and_once() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        command = MAKE.move(it.here, it.there, 1)
        message = it.mail.envelope([command])
        worker.bus.receive_ahead(Partition(0), message)
        await it._until(lambda: (command.id, command.fingerprint) in it.told.answered, "not answered")
        it.broker.publish(Partition(0), message)
        await it.settled()
        assert (it.balance(it.here), it.told.replayed) == (999, 0)

    play(scene())


def test_a_line_that_is_given_back_takes_nothing_more_that_comes_ahead() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        command = MAKE.move(it.here, it.there, 1)
        worker.teller.lines[Partition(0)].is_draining = True
        worker.bus.receive_ahead(Partition(0), it.mail.envelope([command]))
        await asyncio.sleep(1)  # virtual
        assert not worker.teller._inbox.has_work([Partition(0)])
        worker.teller.lines[Partition(0)].is_draining = False
        it.publish(command)
        await it.settled()
        assert it.balance(it.here) == 999

    play(scene())
