"""A send queue's envelopes in flight: how long each may go unanswered, and which answer ends which."""

import asyncio
import gc
import weakref
from collections.abc import Coroutine
from typing import Any

from shared.domain.ids import Partition
from shared.ledger_client.pending import PendingCommand
from shared.ledger_client.send_queue import ANSWER_TIMEOUT_S, InFlightEnvelope, SendQueue
from tests.twins.clock import run_virtually
from tests.unit.ledger_wire import transfer


class WatchedQueue(SendQueue):
    """A queue that notes which envelopes are ended by time, and when."""

    def __init__(self) -> None:
        super().__init__(Partition(0))
        self.late: list[tuple[InFlightEnvelope, float]] = []
        self._is_answered = False

    def leave(self, *pending: PendingCommand) -> InFlightEnvelope:
        """An envelope with these, confirmed at once."""
        for each in pending or [PendingCommand(transfer())]:
            self.add(each)
        envelope = self.take()
        self.confirmed(envelope)
        return envelope

    def answered(self, outcomes: set[tuple[str, str]]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] of a test
        self._is_answered = True
        super().answered(outcomes)
        self._is_answered = False

    def end(self, envelope: InFlightEnvelope) -> None:
        if not self._is_answered:
            self.late.append((envelope, round(asyncio.get_running_loop().time(), 3)))
        super().end(envelope)


def play(scene: Coroutine[Any, Any, None]) -> None:
    run_virtually(scene)


def test_the_second_has_its_time_from_the_answer_to_the_first() -> None:
    async def scene() -> None:
        queue, began = WatchedQueue(), asyncio.get_running_loop().time()
        first, second = queue.leave(), queue.leave()
        await asyncio.sleep(ANSWER_TIMEOUT_S * 0.8)
        queue.answered({first.last})
        await asyncio.sleep(ANSWER_TIMEOUT_S * 10)
        assert queue.late == [(second, round(began + ANSWER_TIMEOUT_S * 1.8, 3))]

    play(scene())


def test_one_that_is_late_gives_the_other_no_more_time() -> None:
    async def scene() -> None:
        queue, began = WatchedQueue(), asyncio.get_running_loop().time()
        first = queue.leave()
        await asyncio.sleep(ANSWER_TIMEOUT_S / 2)
        second = queue.leave()
        await asyncio.sleep(ANSWER_TIMEOUT_S * 10)
        assert queue.late == [
            (first, round(began + ANSWER_TIMEOUT_S, 3)),
            (second, round(began + ANSWER_TIMEOUT_S * 1.5, 3)),
        ]

    play(scene())


def test_one_that_is_not_confirmed_is_never_late() -> None:
    async def scene() -> None:
        queue = WatchedQueue()
        first = queue.leave()
        queue.add(PendingCommand(transfer()))
        unconfirmed = queue.take()
        queue.answered({first.last})
        await asyncio.sleep(ANSWER_TIMEOUT_S * 10)
        assert queue.late == []
        queue.confirmed(unconfirmed)
        await asyncio.sleep(ANSWER_TIMEOUT_S * 10)
        assert [envelope for envelope, _ in queue.late] == [unconfirmed]

    play(scene())


def test_two_that_end_with_the_same_command_count_as_two_and_end_with_its_answer() -> None:
    async def scene() -> None:
        queue, command = WatchedQueue(), transfer()
        first, _ = queue.leave(PendingCommand(command)), queue.leave(PendingCommand(command))
        queue.add(PendingCommand(transfer()))
        assert not queue.ready.is_set()
        queue.answered({first.last})
        assert queue.ready.is_set()
        await asyncio.sleep(ANSWER_TIMEOUT_S * 10)
        assert queue.late == []

    play(scene())


def test_an_answered_envelope_is_freed_at_once() -> None:
    async def scene() -> None:
        queue = SendQueue(Partition(0))
        queue.add(PendingCommand(transfer()))
        envelope = queue.take()
        carried = weakref.ref(envelope.commands[0].command)
        queue.confirmed(envelope)
        queue.answered({envelope.last})
        del envelope
        assert carried() is None

    gc.disable()
    try:
        play(scene())
    finally:
        gc.enable()
