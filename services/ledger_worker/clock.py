"""ports.Clock on the machine's clocks."""

import asyncio
import time


class SystemClock:
    """The real one."""

    def monotonic_s(self) -> float:
        """See ports.Clock."""
        return time.monotonic()

    def now_us(self) -> int:
        """See ports.Clock."""
        return time.time_ns() // 1_000

    async def sleep(self, seconds: float) -> None:
        """See ports.Clock."""
        await asyncio.sleep(seconds)
