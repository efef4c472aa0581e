"""Operators' decisions, which the journal keeps: who, when, why, and about what."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final, Literal, TypeAlias

from services.gateway.store.database import Database
from services.gateway.usecases.faults import CommandNotSent
from services.gateway.usecases.submit import Submission, SubmissionStatus, Write, submit
from shared.messages import OperatorDecision
from shared.mixer.payout_decisions import PayoutDecisionKind
from shared.mixer.sweep_decisions import SweepDecisionKind
from shared.runtime.compact_json import compact_json

# A decision is written before it is carried out, so it is waited for even if the client would not wait; not for longer,
# since nobody else sees dead letters meanwhile.
WAIT_S: Final = 5.0
# How often it is asked whether a service has taken a decision up.
POLL_S: Final = 0.05
DecisionKind: TypeAlias = (
    Literal["dead_letter.retry.v1", "dead_letter.resolve.v1", "suspense.resolve.v1"]
    | PayoutDecisionKind
    | SweepDecisionKind
)


async def record_decision(
    write: Write,
    kind: DecisionKind,
    reference: str,
    facts: Mapping[str, object],
) -> Submission:
    """Writes the decision. The submission is posted, or rejected: the key has another use.

    Raises CommandNotSent, also while it is not written, or TooManyCommands: nothing may be done then.
    """
    metadata = compact_json(facts).decode()
    command = OperatorDecision(kind=kind, **write.header(), reference=reference, metadata=metadata)
    submission = await submit(replace(write, wait_s=WAIT_S), command)
    if submission.status in {SubmissionStatus.PENDING, SubmissionStatus.UNKNOWN}:
        raise CommandNotSent("the decision is not in the journal yet, so nothing was done: try again")
    return submission


async def taken_up(write: Write, read: Callable[[Database, str], Awaitable[bool | None]]) -> bool | None:
    """Waits until a service has taken a decision of the journal up, as `read` tells, or the client waits no longer.

    True: it was applied. False: it came too late. None: nobody has taken it up yet. Raises DatabaseUnavailable.
    """
    until_s = time.monotonic() + write.wait_s
    while (is_applied := await read(write.state.database, write.id)) is None:
        if time.monotonic() >= until_s or write.state.stopping.has_begun:
            break
        await asyncio.sleep(POLL_S)
    return is_applied
