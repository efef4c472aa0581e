"""Which faults the network commits: a plan that says, call by call, what goes wrong.

The plan draws from a random source that it is given, so that a seed decides a run. What the network keeps is exact
whatever the plan says: a fault decides when a transfer is applied, if it is, or what a caller is told, nothing else.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

PARTS = 1_000_000
# Rows that change places, come twice or are missing are among the newest.
NEWEST_ROWS = 100

# `draw(n)` is a random whole number from 0 to n - 1.
Draw = Callable[[int], int]


class Call(StrEnum):
    """The calls of the API that faults can hit."""

    LIST = "list"  # GET …/transactions
    ADDRESS = "address"  # GET …/addresses/{address}
    SEND = "send"  # POST …/transactions


class FaultKind(StrEnum):
    """What goes wrong with one call. Unless the kind says otherwise, the request is done and its answer is spoiled."""

    NONE = "none"  # nothing, whatever the rates say: for scripts
    LATENCY = "latency"  # everything is done, after `ms`
    REFUSED = "refused"  # nothing is done, the connection is cut, and nobody can connect to the network for `ms`
    RESET = "reset"  # nothing is done, and the connection is cut
    ERROR = "error"  # nothing is done, and the answer has the status
    APPLIED_WITHOUT_ANSWER = "applied_without_answer"  # applied; the connection is cut, or the answer has the status
    ANSWERED_WITHOUT_APPLYING = "answered_without_applying"  # the answer is OK, and nothing is done
    DELAYED_APPLY = "delayed_apply"  # answered as APPLIED_WITHOUT_ANSWER, and applied after `ms`
    DUPLICATE_ROWS = "duplicate_rows"  # `rows` of the newest rows come twice
    MISSING_ROWS = "missing_rows"  # `rows` of the newest rows are not there
    REORDERED_ROWS = "reordered_rows"  # `rows` times two neighbours among the newest rows change places
    CLOCK_SKEW = "clock_skew"  # all timestamps are `ms` late
    HTML = "html"  # a page with status 200
    LARGE_BODY = "large_body"  # one megabyte with status 200
    WRONG_TYPES = "wrong_types"  # JSON with status 200 whose values have other types


EVERY, READS, SENDS = frozenset(Call), frozenset({Call.LIST, Call.ADDRESS}), frozenset({Call.SEND})
CALLS: Mapping[FaultKind, frozenset[Call]] = {
    FaultKind.NONE: EVERY,
    FaultKind.LATENCY: EVERY,
    FaultKind.REFUSED: EVERY,
    FaultKind.RESET: EVERY,
    FaultKind.ERROR: EVERY,
    FaultKind.APPLIED_WITHOUT_ANSWER: SENDS,
    FaultKind.ANSWERED_WITHOUT_APPLYING: SENDS,
    FaultKind.DELAYED_APPLY: SENDS,
    FaultKind.DUPLICATE_ROWS: READS,
    FaultKind.MISSING_ROWS: READS,
    FaultKind.REORDERED_ROWS: READS,
    FaultKind.CLOCK_SKEW: READS,
    FaultKind.HTML: EVERY,
    FaultKind.LARGE_BODY: EVERY,
    FaultKind.WRONG_TYPES: EVERY,
}


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One kind of fault, and how it is done.

    `call`: only these calls. `ms_min` to `ms_max`: how long what the kind delays or moves. `status`: of the answer;
    0 cuts the connection. `rows`: how many.
    """

    kind: FaultKind
    call: Call | None = None
    ms_min: int = 1_000
    ms_max: int = 1_000
    status: int = 0
    rows: int = 1

    def fits(self, call: Call) -> bool:
        """Whether this can happen to such a call."""
        return call in CALLS[self.kind] and self.call in {None, call}


@dataclass(frozen=True, slots=True)
class CallFault:
    """What goes wrong with one call."""

    kind: FaultKind
    ms: int
    status: int
    rows: int


class RatesTooHighError(ValueError):
    """The rates of the faults that can happen to one call make more than 1."""


class FaultPlan:
    """What goes wrong with each call of one instance: first what the script says, then by rates.

    A call takes the first fault of the script if that fits it, and leaves it to a later call otherwise. At most one
    fault happens to a call, so that a rate is exactly the share of the calls that it can happen to. `rates`: rules with
    their parts per million.
    """

    def __init__(
        self, draw: Draw, rates: Sequence[tuple[FaultRule, int]] = (), script: Iterable[FaultRule] = ()
    ) -> None:
        """Raises RatesTooHighError."""
        self.draw = draw
        self.rates = rates
        self.script = deque(script)
        for call in Call:
            if sum(parts for rule, parts in rates if rule.fits(call)) > PARTS:
                raise RatesTooHighError(f"the rates of the faults that can happen to the call {call} make more than 1")

    def next(self, call: Call) -> CallFault | None:
        """The fault of this call, if it has one."""
        if self.script and self.script[0].fits(call):
            return self._fault(self.script.popleft())
        drawn = self.draw(PARTS)
        for rule, parts in self.rates:
            if rule.fits(call):
                if drawn < parts:
                    return self._fault(rule)
                drawn -= parts
        return None

    def _fault(self, rule: FaultRule) -> CallFault | None:
        if rule.kind is FaultKind.NONE:
            return None
        ms = rule.ms_min + self.draw(rule.ms_max - rule.ms_min + 1)
        return CallFault(rule.kind, ms, rule.status, rule.rows)


class FaultPlans:
    """The plans of all instances by name, and how often each fault was committed there since the start."""

    def __init__(self) -> None:
        self._plans: dict[str, FaultPlan] = {}
        self._counts: dict[str, Counter[tuple[FaultKind, Call]]] = {}

    def put(self, name: str, plan: FaultPlan) -> None:
        """From now on the instance has these faults and no others."""
        self._plans[name] = plan

    def drop(self, name: str) -> None:
        """From now on the instance has no faults. Counts stay."""
        self._plans.pop(name, None)

    def plan(self, name: str) -> FaultPlan | None:
        """The instance's plan."""
        return self._plans.get(name)

    def counts(self, name: str) -> Mapping[tuple[FaultKind, Call], int]:
        """How often each kind of fault happened to each call."""
        return self._counts.get(name, {})

    def count(self, name: str, kind: FaultKind, call: Call) -> None:
        """Counts a fault that happened."""
        self._counts.setdefault(name, Counter())[kind, call] += 1


def shown_positions(fault: CallFault, positions: Sequence[int], draw: Draw) -> Sequence[int]:
    """Which rows are shown, and in which order, instead of `positions`."""
    shown = list(positions)
    if change := _ROW_CHANGES.get(fault.kind):
        for _ in range(fault.rows):
            change(shown, max(0, len(shown) - NEWEST_ROWS), draw)
    return shown


def _duplicate(shown: list[int], oldest: int, draw: Draw) -> None:
    if shown:
        place = oldest + draw(len(shown) - oldest)
        shown.insert(place, shown[place])


def _remove(shown: list[int], oldest: int, draw: Draw) -> None:
    if shown:
        del shown[oldest + draw(len(shown) - oldest)]


def _swap(shown: list[int], oldest: int, draw: Draw) -> None:
    if shown[1:]:
        place = oldest + draw(len(shown) - oldest - 1)
        shown[place], shown[place + 1] = shown[place + 1], shown[place]


_ROW_CHANGES: Mapping[FaultKind, Callable[[list[int], int, Draw], None]] = {
    FaultKind.DUPLICATE_ROWS: _duplicate,
    FaultKind.MISSING_ROWS: _remove,
    FaultKind.REORDERED_ROWS: _swap,
}


def skewed(row: bytes, ms: int) -> bytes:
    """The row, timed so much later. A row begins with its timestamp, whose length never changes."""
    start, end = len(b'{"timestamp":"'), len(b'{"timestamp":"2014-04-22T13:10:01.210Z')
    shown = datetime.fromisoformat(row[start:end].decode()) + timedelta(milliseconds=ms)
    return row[:start] + f"{shown:%Y-%m-%dT%H:%M:%S}.{shown.microsecond // 1000:03}Z".encode() + row[end:]
