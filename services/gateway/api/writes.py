"""What all writes have in common: the headers that they read, and how they answer."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NotRequired

from typing_extensions import TypedDict

from services.gateway.http.problems import Problem, RequestFault, invalid_field
from services.gateway.http.request import RequestContext
from services.gateway.http.response import HttpResponse
from services.gateway.store.database import DatabaseUnavailable
from services.gateway.usecases.faults import NotFound
from services.gateway.usecases.submit import Submission, SubmissionStatus, Write, begin, fingerprint, kind_of
from shared.domain.money import format_amount
from shared.domain.rejections import Rejection
from shared.messages import OperationCancel
from shared.runtime.compact_json import compact_json

WAIT_S_DEFAULT: Final = 5.0
WAIT_S_MAX: Final = 30
WAIT: Final = re.compile(r"wait\s*=\s*\"?([0-9]{1,9})\"?", re.ASCII)
# Kinds whose account is named by the path, not by the body: if it does not exist, the answer is 404 instead of 422.
NAMED_BY_PATH: Final = frozenset({"account.update", "account.close"})
KEY: Final = re.compile(r"[\x20-\x7e]{1,255}", re.ASCII)


class AcceptedBody(TypedDict):
    """A write without an outcome yet: ask the operation."""

    id: str
    kind: NotRequired[str | None]
    status: str
    links: dict[str, str]


def begin_write(context: RequestContext, *content: str | int | Sequence[str] | None) -> Write:
    """The write of this request. Headers give key and wait; `content` gives the fingerprint. Raises Problem."""
    headers = context.request.headers
    keys = headers.getall("Idempotency-Key", None)
    if keys is not None and (len(keys) > 1 or not KEY.fullmatch(keys[0])):
        raise invalid_field("Idempotency-Key", "one key of 1 to 255 printable ASCII characters")
    preferences = headers.getall("Prefer", None)
    write = begin(
        context.state,
        context.caller,
        None if keys is None else keys[0],
        fingerprint(f"{context.request.method} {context.route_path}", *content),
        WAIT_S_DEFAULT if preferences is None else preferred_wait_s(preferences),
    )
    context.operation = write.id
    return write


def preferred_wait_s(preferences: Sequence[str]) -> float:
    """Seconds to wait, by the Prefer headers (RFC 7240): the first `wait`, else 0 with `respond-async`.

    `respond-async, wait=10` asks for an answer within 10 s, and for 202 after that.
    """
    choices = [preference.split(";")[0].strip().lower() for preference in ",".join(preferences).split(",")]
    for choice in choices:
        if match := WAIT.fullmatch(choice):
            return float(min(int(match[1]), WAIT_S_MAX))
    return 0.0 if "respond-async" in choices else WAIT_S_DEFAULT


async def answer_write(
    submission: Submission, status: int, show: Callable[[], Awaitable[object]] | None = None
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
            return accepted(submission)
        case SubmissionStatus.POSTED:
            try:
                body = b"" if show is None else compact_json(await show())
            except (DatabaseUnavailable, NotFound):
                return accepted(submission)  # a 503 or 404 would say that the command had no effect
            return HttpResponse(status, body, _headers(submission))


def rejection_problem(submission: Submission) -> Problem:
    """The problem of a rejected command. Raises ValueError for any other."""
    rejected, kind = submission.rejected, kind_of(submission.command)
    if rejected is None:
        raise ValueError(f"{submission.command.id} was not rejected")
    is_not_found = rejected.code is Rejection.ACCOUNT_NOT_FOUND and kind in NAMED_BY_PATH
    problem = Problem(
        RequestFault.NOT_FOUND if is_not_found else rejected.code,
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


def accepted(submission: Submission) -> HttpResponse:
    """202: there is no outcome yet, or none that can be read now."""
    command, location = submission.command, _location(submission)
    body: AcceptedBody = {
        "id": command.id,
        # A cancel does not know the kind of the operation that it ends.
        "kind": None if isinstance(command, OperationCancel) else kind_of(command),
        "status": "pending",
        "links": {"self": location, "cancel": _cancel_link(submission)},
    }
    return HttpResponse(202, compact_json(body), {"Operation-Id": command.id, "Location": location})


def _location(submission: Submission) -> str:
    """The operation's address. `of` refuses the outcome of other content with the same key; a cancel has no content."""
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
