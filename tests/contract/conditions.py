"""Waiting for something to become true, never for time to pass."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

WAIT_MAX_S = 20.0
POLL_S = 0.01


async def eventually(holds: Callable[[], T], within_s: float = WAIT_MAX_S) -> T:
    """What `holds` returns once it is true."""

    async def ask() -> T:
        return holds()

    return await eventually_async(ask, within_s)


async def eventually_async(holds: Callable[[], Awaitable[T]], within_s: float = WAIT_MAX_S) -> T:
    """What `holds` answers once that is true."""
    until = time.monotonic() + within_s
    while not (found := await holds()):
        if time.monotonic() > until:
            raise TimeoutError(f"not within {within_s} s: {holds}")
        await asyncio.sleep(POLL_S)
    return found
