"""Shares: how much one caller may use at once of what all callers use together (ADR 15)."""

import asyncio
from collections import deque
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, NamedTuple


class Serving(NamedTuple):
    """For whom the current task works."""

    principal: str
    is_write: bool


# None while the gateway works for itself.
SERVING: Final[ContextVar[Serving | None]] = ContextVar("serving", default=None)


class ShareExceeded(Exception):
    """There is no room now. `is_own`: the caller uses all it may; otherwise all callers together do."""

    def __init__(self, what: str, *, is_own: bool) -> None:
        super().__init__(f"too many {what} {'of this caller ' if is_own else ''}are under way")
        self.is_own = is_own


@dataclass(slots=True, eq=False)
class Shares:
    """All callers together use at most `together_max` at once, each caller at most `each_max`. `what`: for messages."""

    what: str
    together_max: int
    each_max: int
    _taken: int = 0
    _of: dict[str, int] = field(default_factory=dict[str, int])
    _waiting: "deque[tuple[str, asyncio.Future[None]]]" = field(
        default_factory=deque["tuple[str, asyncio.Future[None]]"]
    )

    def take(self, caller: str, amount: int = 1) -> None:
        """Takes so much; follow with `give_back`. Raises ShareExceeded."""
        own = self._of.get(caller, 0) + amount
        if own > self.each_max or self._taken + amount > self.together_max:
            raise ShareExceeded(self.what, is_own=own > self.each_max)
        self._of[caller] = own
        self._taken += amount

    async def wait(self, caller: str, within_s: float) -> None:
        """Takes one, as soon as there is room; who came first is served first. Raises ShareExceeded."""
        try:
            self.take(caller)
        except ShareExceeded:
            await self._wait_in_line(caller, within_s)

    def give_back(self, caller: str, amount: int = 1) -> None:
        """Ends what `take` or `wait` began."""
        self._taken -= amount
        self._of[caller] -= amount
        if not self._of[caller]:
            del self._of[caller]
        if self._waiting:
            self._let_in()

    def _let_in(self) -> None:
        """Gives what is free to those who wait and still may have it."""
        for place in list(self._waiting):
            if self._taken >= self.together_max:
                return
            caller, turn = place
            if not turn.done() and self._of.get(caller, 0) < self.each_max:
                self.take(caller)
                self._waiting.remove(place)
                turn.set_result(None)

    async def _wait_in_line(self, caller: str, within_s: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = caller, turn
        self._waiting.append(place)
        try:
            async with asyncio.timeout(within_s):
                await turn
        except BaseException as end:
            if place in self._waiting:
                self._waiting.remove(place)
            else:  # it was let in at the last moment
                self.give_back(caller)
            if isinstance(end, TimeoutError):
                raise ShareExceeded(self.what, is_own=self._of.get(caller, 0) >= self.each_max) from end
            raise
