"""Named points at which tests let a process die, stop or fail (FoundationDB's buggify, in small).

Every point is declared here, so that a test can enumerate them and fail when one is never reached. Nothing happens
unless TELLERLINE_FAULT is set to `point[:n[:action]]`: at the n-th passage of the point (from 1, the default), do the
action: kill (default), stop or raise. Each action first writes `fault.hit <point> <action>` to stderr, so that a test
sees in the log when it happened.
"""

import itertools
import os
import signal
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Final


class FaultPoint(StrEnum):
    """Where a process may die. The name says what has just happened, or what comes next."""

    WORKER_BEFORE_FENCE = "worker.before_fence"
    WORKER_IN_BATCH = "worker.in_batch"
    WORKER_BEFORE_COMMIT = "worker.before_commit"
    WORKER_AFTER_COMMIT = "worker.after_commit"
    WORKER_AFTER_ANSWER = "worker.after_answer"
    WORKER_IN_CORE = "worker.in_core"
    GATEWAY_BEFORE_PUBLISH = "gateway.before_publish"
    GATEWAY_AFTER_CONFIRM = "gateway.after_confirm"
    POLLER_AFTER_ORDER_WRITTEN = "poller.after_order_written"
    POLLER_AFTER_DEPOSIT_WRITTEN = "poller.after_deposit_written"
    POLLER_AFTER_SWEEP_PLANNED = "poller.after_sweep_planned"
    POLLER_AFTER_SWEEP_INTENT = "poller.after_sweep_intent"
    POLLER_AFTER_SWEEP_SENT = "poller.after_sweep_sent"
    POLLER_AFTER_SWEEP_SEEN = "poller.after_sweep_seen"
    POLLER_BEFORE_CREDIT = "poller.before_credit"
    DISTRIBUTOR_IN_PLAN = "distributor.in_plan"
    DISTRIBUTOR_AFTER_HOLD = "distributor.after_hold"
    DISTRIBUTOR_AFTER_INTENT = "distributor.after_intent"
    DISTRIBUTOR_AFTER_SEND = "distributor.after_send"
    DISTRIBUTOR_AFTER_SEEN = "distributor.after_seen"
    DISTRIBUTOR_BEFORE_CAPTURE = "distributor.before_capture"
    DISTRIBUTOR_AFTER_CAPTURE = "distributor.after_capture"


class FaultInjected(Exception):
    """Raised by the action `raise`."""


def _parse(text: str) -> tuple[FaultPoint, int, str] | None:
    if not text:
        return None
    point, _, rest = text.partition(":")
    count, _, action = rest.partition(":")
    return FaultPoint(point), int(count or "1"), action or "kill"


_armed = _parse(os.environ.get("TELLERLINE_FAULT", ""))
_passages = itertools.count(1)


def _armed_fault_point(point: FaultPoint) -> None:
    if _armed is None or point is not _armed[0] or next(_passages) != _armed[1]:
        return
    action = _armed[2]
    sys.stderr.write(f"fault.hit {point} {action}\n")
    sys.stderr.flush()
    if action == "raise":
        raise FaultInjected(point)
    os.kill(os.getpid(), signal.SIGSTOP if action == "stop" else signal.SIGKILL)


# Marks a line at which a test may let the process die. Unless a point is armed, this is a cheap builtin without effect,
# since it is called for each transfer.
fault_point: Final[Callable[[FaultPoint], object]] = bool if _armed is None else _armed_fault_point
