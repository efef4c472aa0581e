"""A circuit breaker and an error-rate alert. The clock is an argument: `now_s` are monotonic seconds."""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum


class BreakerState(StrEnum):
    """Closed admits calls, open admits none, half open admits one probe whose end decides."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(slots=True)
class Window:
    """The calls of the last `window_s` seconds: when each was made, and whether it succeeded."""

    window_s: float
    calls: deque[tuple[float, bool]] = field(default_factory=deque[tuple[float, bool]])
    faults: int = 0

    def note(self, now_s: float, *, ok: bool) -> None:
        """Adds a call and drops those that are too old."""
        self.calls.append((now_s, ok))
        self.faults += not ok
        while self.calls and self.calls[0][0] < now_s - self.window_s:
            _, ok = self.calls.popleft()
            self.faults -= not ok

    @property
    def fault_percent(self) -> int:
        """Share of failed calls, rounded down; 0 without calls."""
        return 100 * self.faults // len(self.calls) if self.calls else 0


@dataclass(slots=True)
class Breaker:
    """Opens after `faults_in_row_max` faults in a row, or when at least `calls_min` calls failed too often.

    After `open_s` it admits a probe.
    """

    faults_in_row_max: int = 5
    calls_min: int = 10
    fault_percent_max: int = 50
    open_s: float = 5.0
    state: BreakerState = BreakerState.CLOSED
    window: Window = field(default_factory=lambda: Window(30.0))
    _in_row: int = 0
    _opened_s: float = 0.0

    def admits(self, now_s: float) -> bool:
        """True if a call may be made now. A half-open breaker admits one call, and no other until that one is noted."""
        if self.state is BreakerState.CLOSED:
            return True
        if now_s - self._opened_s < self.open_s:
            return False
        # A probe that was not noted for so long never will be, for its caller was cancelled: the next call is one, too.
        self.state = BreakerState.HALF_OPEN
        self._opened_s = now_s
        return True

    def note(self, now_s: float, *, ok: bool) -> None:
        """Takes in how a call ended."""
        self.window.note(now_s, ok=ok)
        self._in_row = 0 if ok else self._in_row + 1
        if ok and self.state is not BreakerState.CLOSED:
            self.state = BreakerState.CLOSED
            self.window = Window(self.window.window_s)
        elif not ok and (self.state is BreakerState.HALF_OPEN or self._is_too_much()):
            self.state = BreakerState.OPEN
            self._opened_s = now_s

    def _is_too_much(self) -> bool:
        many = len(self.window.calls) >= self.calls_min and self.window.fault_percent >= self.fault_percent_max
        return many or self._in_row >= self.faults_in_row_max


@dataclass(slots=True)
class RateAlert:
    """Raised once when the share of failed calls becomes high, and cleared once when it is low again."""

    calls_min: int = 10
    raise_percent: int = 20
    clear_percent: int = 5
    raised: bool = False
    window: Window = field(default_factory=lambda: Window(60.0))

    def note(self, now_s: float, *, ok: bool) -> bool | None:
        """Takes in how a call ended. Returns True if this raises the alert, False if it clears it, else None."""
        self.window.note(now_s, ok=ok)
        percent = self.window.fault_percent
        if not self.raised and len(self.window.calls) >= self.calls_min and percent >= self.raise_percent:
            self.raised = True
            return True
        if self.raised and percent <= self.clear_percent:
            self.raised = False
            return False
        return None
