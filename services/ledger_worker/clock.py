"""ports.Clock on the clocks of the operating system."""

import asyncio
import time


class SystemClock:
    """The clock of a running worker; tests use one in virtual time."""

    monotonic_s = staticmethod(time.monotonic)
    now_ns = staticmethod(time.time_ns)
    sleep = staticmethod(asyncio.sleep)
