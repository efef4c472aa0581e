"""Operators' decisions, which the journal keeps: who, when, why, and about what."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Literal

from services.gateway.usecases.faults import CommandNotSent
from services.gateway.usecases.submit import Submission, SubmissionStatus, Write, submit
from shared.messages import OperatorDecision
from shared.mixer.payout_decisions import PayoutDecisionKind
from shared.runtime.compact_json import compact_json

# A decision is written before it is carried out, so it is waited for even if the client would not wait; not for longer,
# since nobody else sees dead letters meanwhile.
WAIT_S: Final = 5.0


async def record_decision(
    write: Write,
    kind: Literal["dead_letter.retry.v1", "dead_letter.resolve.v1", "suspense.resolve.v1"] | PayoutDecisionKind,
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
