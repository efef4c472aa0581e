"""Exponential backoff with jitter."""

import random
from typing import Final

BACKOFF_S_MIN: Final = 0.2


def backoff_s(attempt: int, *, s_max: float = 1.0) -> float:
    """Seconds to wait before retry n = 0, 1, …: random between 0.2 and 0.2 * 2^n, which is capped at `s_max`.

    The default is short, so that nobody waits long after a server has come back.
    After M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """
    return random.uniform(BACKOFF_S_MIN, min(s_max, BACKOFF_S_MIN * 2.0 ** min(attempt, 10)))  # noqa: S311 - jitter
