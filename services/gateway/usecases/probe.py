"""Waits that end in time for the answer of a service that may have fallen silent."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

ANSWER_S_MAX: Final = 2.0
FRESH_S_MAX: Final = 1.0
Found = TypeVar("Found")


class NoAnswer(Exception):
    """The other side did not answer in time, or the way to it broke."""


class Probe(Generic[Found]):
    """Asks another service how it is: one question at a time and at most one a second, however many want to know.

    A question that waits too long is not cancelled: that would close what it was asked on (an AMQP channel), and a new
    one would tell no more. Until it ends, everybody hears at once that there is no answer.
    """

    def __init__(self, ask: Callable[[], Awaitable[Found]], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._question: asyncio.Task[Found] | None = None
        self._asked_s = 0.0
        self._ended_s = 0.0

    async def found(self) -> Found:
        """What the answer was, at most FRESH_S_MAX ago. Raises NoAnswer after ANSWER_S_MAX at the latest."""
        question = self._question
        if question is None or (question.done() and self._clock() - self._ended_s > FRESH_S_MAX):
            question = asyncio.create_task(self._put())  # noqa: TID251 - a fault is an answer here, and ends nobody
            question.add_done_callback(_heard)
            self._question = question
            self._asked_s = self._clock()
        if not question.done():
            await asyncio.wait({question}, timeout=max(0.0, self._asked_s + ANSWER_S_MAX - self._clock()))
        if not question.done():
            raise NoAnswer(f"none for {self._clock() - self._asked_s:.1f} s")
        if question.cancelled():
            raise NoAnswer("the way to it was closed")
        if (fault := question.exception()) is not None:
            raise NoAnswer(repr(fault)) from fault
        return question.result()

    async def _put(self) -> Found:
        try:
            return await self._ask()
        finally:
            self._ended_s = self._clock()


def _heard(question: asyncio.Task[Found]) -> None:
    """Nobody may be waiting any more: its fault was heard all the same."""
    if not question.cancelled():
        question.exception()
