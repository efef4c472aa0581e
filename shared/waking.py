"""Gives what a reply brought to those who wait for it, a few at each turn of the loop."""

import asyncio
from collections import deque
from typing import Final

from shared.messages import Outcome, Reply
from shared.sending import InFlight

WOKEN_AT_ONCE_MAX: Final = 32


class Waking:
    """All at once they would hold up, at each turn, what the broker's client does in several: the next envelopes."""

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._replies: deque[Reply] = deque()
        self._given = asyncio.Event()
        self.unmatched = 0  # outcomes that nobody waited for

    def give(self, reply: Reply) -> None:
        """Whoever is alone is woken at once."""
        if len(reply.outcomes) > 1:
            self._replies.append(reply)
            self._given.set()
        else:
            self._decide(reply.outcomes)
            self._settle(reply)

    async def run(self) -> None:
        """Wakes until cancelled."""
        while True:
            await self._given.wait()
            self._given.clear()
            while self._replies:
                await self._wake(self._replies.popleft())

    async def _wake(self, reply: Reply) -> None:
        for first in range(0, len(reply.outcomes), WOKEN_AT_ONCE_MAX):
            self._decide(reply.outcomes[first : first + WOKEN_AT_ONCE_MAX])
            await asyncio.sleep(0)
        self._settle(reply)

    def _decide(self, outcomes: tuple[Outcome, ...]) -> None:
        for outcome in outcomes:
            if not self._in_flight.decide(outcome):
                self.unmatched += 1

    def _settle(self, reply: Reply) -> None:
        for settled in reply.settled:
            self._in_flight.settle(settled)
