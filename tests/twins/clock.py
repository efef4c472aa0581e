"""Virtual time: a loop whose timers fire at once, in order, and the clock port on it."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

BEGAN_NS = 1_700_000_000_000_000_000


class Deadlock(Exception):
    """Nothing is ready and no timer is set: nobody will ever wake again."""


class _Selector(selectors.SelectSelector):
    """Instead of waiting, moves the loop's time."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout is None:
            raise Deadlock
        if not found and timeout:
            # At least what a float of this size can tell apart.
            self.loop.elapsed_s += max(timeout, 1e-6)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes only when nothing is ready, and then at once."""

    def __init__(self) -> None:
        selector = _Selector()
        super().__init__(selector)
        selector.loop = self
        self.elapsed_s = 0.0

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self.elapsed_s


def run_virtually(work: Coroutine[Any, Any, T]) -> T:
    """Runs the coroutine on a loop of its own, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


class LoopClock:
    """ports.Clock by the running loop: virtual on a VirtualLoop."""

    def monotonic_s(self) -> float:
        """See ports.Clock."""
        return asyncio.get_running_loop().time()

    def now_ns(self) -> int:
        """See ports.Clock."""
        return BEGAN_NS + int(self.monotonic_s() * 1_000_000_000)

    async def sleep(self, seconds: float, /) -> None:
        """See ports.Clock."""
        await asyncio.sleep(seconds)
