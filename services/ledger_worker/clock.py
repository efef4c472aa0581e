"""ports.Clock on the machine's clocks."""

import asyncio
import time


class SystemClock:
    """The real one."""

    monotonic_s = staticmethod(time.monotonic)
    now_ns = staticmethod(time.time_ns)
    sleep = staticmethod(asyncio.sleep)
