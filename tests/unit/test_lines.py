"""A line's envelopes under way: how long each may go unanswered, and which answer ends which."""

import asyncio
import gc
import weakref
from collections.abc import Coroutine
from typing import Any

from shared.ids import Partition
from shared.lines import ANSWER_S_MAX, Envelope, Line
from shared.sending import Sent
from tests.twins.clock import run_virtually
from tests.unit.ledger_wire import move


class Watched(Line):
    """A line that notes what is late, and when."""

    def __init__(self) -> None:
        super().__init__(Partition(0))
        self.late: list[tuple[Envelope, float]] = []

    def leave(self, *sent: Sent) -> Envelope:
        """An envelope with these, confirmed at once."""
        for each in sent or [Sent(move())]:
            self.add(each)
        envelope = self.take()

        def late() -> None:
            self.late.append((envelope, round(asyncio.get_running_loop().time(), 3)))
            self.end(envelope)

        self.confirmed(envelope, late)
        return envelope


def play(scene: Coroutine[Any, Any, None]) -> None:
    run_virtually(scene)


def test_the_second_has_its_time_from_the_answer_to_the_first() -> None:
    async def scene() -> None:
        line, began = Watched(), asyncio.get_running_loop().time()
        first, second = line.leave(), line.leave()
        await asyncio.sleep(ANSWER_S_MAX * 0.8)
        line.hear({first.last})
        await asyncio.sleep(ANSWER_S_MAX * 10)
        assert line.late == [(second, round(began + ANSWER_S_MAX * 1.8, 3))]

    play(scene())


def test_one_that_is_late_gives_the_other_no_more_time() -> None:
    async def scene() -> None:
        line, began = Watched(), asyncio.get_running_loop().time()
        first = line.leave()
        await asyncio.sleep(ANSWER_S_MAX / 2)
        second = line.leave()
        await asyncio.sleep(ANSWER_S_MAX * 10)
        assert line.late == [
            (first, round(began + ANSWER_S_MAX, 3)),
            (second, round(began + ANSWER_S_MAX * 1.5, 3)),
        ]

    play(scene())


def test_two_that_end_with_the_same_command_count_as_two_and_end_with_its_answer() -> None:
    async def scene() -> None:
        line, command = Watched(), move()
        first, _ = line.leave(Sent(command)), line.leave(Sent(command))
        line.add(Sent(move()))
        assert not line.turn.is_set()
        line.hear({first.last})
        assert line.turn.is_set()
        await asyncio.sleep(ANSWER_S_MAX * 10)
        assert line.late == []

    play(scene())


def test_what_was_answered_is_let_go_of_at_once() -> None:
    async def scene() -> None:
        line = Line(Partition(0))
        line.add(Sent(move()))
        envelope = line.take()

        def late() -> None:
            line.end(envelope)

        kept = weakref.ref(late)
        line.confirmed(envelope, late)
        del late
        assert kept() is not None
        line.hear({envelope.last})
        assert kept() is None

    gc.disable()
    try:
        play(scene())
    finally:
        gc.enable()
