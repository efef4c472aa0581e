"""Asks a service that may have stopped answering how it is, with a limit on the wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

ANSWER_S_MAX: Final = 2.0
FRESH_S_MAX: Final = 1.0
Found = TypeVar("Found")


class NoAnswer(Exception):
    """The service did not answer in time, or the question failed, such as by a lost connection."""


class Probe(Generic[Found]):
    """Asks another service how it is: one question at a time and at most one a second, however many want to know.

    A question that takes too long is not cancelled: that would close the AMQP channel it was asked on, and a new one
    would tell no more. Until it ends, every caller gets NoAnswer at once.
    """

    def __init__(self, ask: Callable[[], Awaitable[Found]], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._question: asyncio.Task[Found] | None = None
        self._asked_s = 0.0
        self._ended_s = 0.0

    async def found(self) -> Found:
        """The answer, at most FRESH_S_MAX seconds old. Raises NoAnswer if there is none in ANSWER_S_MAX seconds."""
        question = self._question
        if question is None or (question.done() and self._clock() - self._ended_s > FRESH_S_MAX):
            question = asyncio.create_task(self._put())  # noqa: TID251 - its exception is an answer here
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
    """Takes the exception, which asyncio would otherwise log as never retrieved when nobody waits any more."""
    if not question.cancelled():
        question.exception()
