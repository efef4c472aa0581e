"""What all writes have in common: the headers that they read, and how they answer."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from services.gateway.http.problems import Problem, RequestFault, invalid_field
from services.gateway.http.request import RequestContext
from services.gateway.http.response import HttpResponse
from services.gateway.store.database import DatabaseUnavailable
from services.gateway.usecases.submit import Submission, SubmissionStatus, kind_of
from shared.domain.money import format_amount
from shared.messages import OperationCancel

WAIT_S_DEFAULT: Final = 5.0
WAIT_S_MAX: Final = 30
WAIT: Final = re.compile(r"wait\s*=\s*\"?([0-9]{1,9})\"?", re.ASCII)
KEY: Final = re.compile(r"[\x20-\x7e]{1,255}", re.ASCII)


class AcceptedBody(TypedDict):
    """A write without an outcome yet: ask the operation."""

    id: str
    kind: NotRequired[str | None]
    status: str
    links: dict[str, str]


ACCEPTED: TypeAdapter[AcceptedBody] = TypeAdapter(AcceptedBody)


def write_headers(context: RequestContext) -> tuple[str | None, float]:
    """The Idempotency-Key, None without one, and for how many seconds the client waits. Raises Problem."""
    headers = context.request.headers
    keys = headers.getall("Idempotency-Key", None)
    if keys is not None and (len(keys) > 1 or not KEY.fullmatch(keys[0])):
        raise invalid_field("Idempotency-Key", "one key of 1 to 255 printable ASCII characters")
    preferences = headers.getall("Prefer", None)
    return None if keys is None else keys[0], WAIT_S_DEFAULT if preferences is None else _wait_s(preferences)


def _wait_s(preferences: Sequence[str]) -> float:
    """What the first preference says that speaks of waiting (RFC 7240 §2). Others are ignored."""
    wanted: float | None = None
    for preference in ",".join(preferences).split(","):
        choice = preference.split(";")[0].strip().lower()
        if choice == "respond-async":
            return 0.0
        match = WAIT.fullmatch(choice)
        if match and wanted is None:
            wanted = float(min(int(match[1]), WAIT_S_MAX))
    return WAIT_S_DEFAULT if wanted is None else wanted


async def answer_write(
    submission: Submission, status: int, show: Callable[[], Awaitable[bytes]] | None = None
) -> HttpResponse:
    """The answer to a write: `status` with the body that `show` makes once it is posted, else 202.

    Raises Problem for a rejection, or when nobody knows whether the command arrived.
    """
    match submission.status:
        case SubmissionStatus.REJECTED:
            raise rejection_problem(submission)
        case SubmissionStatus.UNKNOWN:
            raise _unknown_problem(submission)
        case SubmissionStatus.PENDING:
            return _accepted(submission)
        case SubmissionStatus.POSTED:
            try:
                body = b"" if show is None else await show()
            except DatabaseUnavailable:
                return _accepted(submission)  # the command was posted: this may not pass for one without effect
            return HttpResponse(status, body, _headers(submission))


def rejection_problem(submission: Submission) -> Problem:
    """The problem of a rejected command. Raises ValueError for any other."""
    rejected = submission.rejected
    if rejected is None:
        raise ValueError(f"{submission.command.id} was not rejected")
    problem = Problem(
        rejected.code,
        rejected.detail,
        errors=[{"field": error.field, "message": error.message} for error in rejected.errors],
        headers=_headers(submission) if submission.is_command else {},
    )
    if rejected.available is not None and rejected.required is not None:
        problem.available = format_amount(rejected.available, submission.scale)
        problem.required = format_amount(rejected.required, submission.scale)
    return problem


def _unknown_problem(submission: Submission) -> Problem:
    location = _location(submission)
    return Problem(
        RequestFault.OUTCOME_UNKNOWN,
        "the command may or may not take effect: ask the operation, or repeat with the same key",
        headers={"Operation-Id": submission.command.id, "Location": location},
        links={"operation": location, "cancel": _cancel_link(submission)},
    )


def _accepted(submission: Submission) -> HttpResponse:
    """202: there is no outcome yet, or none that can be read now."""
    command, location = submission.command, _location(submission)
    body = ACCEPTED.dump_json(
        {
            "id": command.id,
            # A cancel may be of anything.
            "kind": None if isinstance(command, OperationCancel) else kind_of(command),
            "status": "pending",
            "links": {"self": location, "cancel": _cancel_link(submission)},
        }
    )
    return HttpResponse(202, body, {"Operation-Id": command.id, "Location": location})


def _location(submission: Submission) -> str:
    """Where the operation is asked for, bound to the content that was sent. A cancel is bound to none."""
    command = submission.command
    path = f"/v1/operations/{command.id}"
    return path if isinstance(command, OperationCancel) else f"{path}?of={command.fingerprint}"


def _cancel_link(submission: Submission) -> str:
    return f"/v1/operations/{submission.command.id}/cancel"


def _headers(submission: Submission) -> dict[str, str]:
    identity = submission.command.id
    return (
        {"Operation-Id": identity, "Idempotency-Replayed": "true"}
        if submission.is_replayed
        else {"Operation-Id": identity}
    )
