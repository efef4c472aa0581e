"""What operators' decisions about payouts and deposits have in common: the body, and how they are answered."""

from collections.abc import Awaitable, Callable

from typing_extensions import TypedDict

from services.gateway.api.fields import ReferenceText
from services.gateway.api.writes import accepted, answer_write
from services.gateway.http.problems import Problem, RequestFault
from services.gateway.http.request import Body
from services.gateway.http.response import HttpResponse
from services.gateway.usecases.submit import Submission, SubmissionStatus


class Decide(Body):
    """`why`: stands in the journal."""

    why: ReferenceText


class DecisionTaken(TypedDict):
    """The last decision about a row. `applied` is false if it came too late to change anything."""

    verb: str
    applied: bool
    links: dict[str, str]


def decision_taken(operation: str, verb: str, *, applied: bool) -> DecisionTaken:
    """The decision that this operation of the journal is."""
    return {"verb": verb, "applied": applied, "links": {"operation": f"/v1/operations/{operation}"}}


async def answer_decision(
    submission: Submission, show: Callable[[], Awaitable[object]], *, is_applied: bool | None
) -> HttpResponse:
    """200 once the decision is applied, 202 while nobody has taken it up. Raises Problem if it came too late."""
    if submission.status is SubmissionStatus.POSTED and is_applied is None:
        return accepted(submission)
    if is_applied is False:
        headers = {"Operation-Id": submission.command.id}
        raise Problem(RequestFault.WRONG_STATE, "it had gone on meanwhile: nothing was changed", headers=headers)
    return await answer_write(submission, 200, show)
