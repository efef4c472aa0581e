"""/v1/operator/dead-letters: messages that no service could process, and how each ends."""

from typing import Final, Literal

from typing_extensions import TypedDict

from services.gateway.api.fields import ReferenceText
from services.gateway.api.writes import answer_write, begin_write
from services.gateway.http.instants import instant_text, microseconds_of
from services.gateway.http.paging import page, position_of
from services.gateway.http.queries import ListQuery
from services.gateway.http.request import Body, RequestContext
from services.gateway.http.response import HttpResponse, json_response, list_response
from services.gateway.http.routing import RouteTable
from services.gateway.store.dead_letters import DeadLetter
from services.gateway.usecases.dead_letters import (
    DeadLetterVerb,
    EndedDeadLetter,
    dead_letter,
    dead_letters,
    end_dead_letter,
    ended_dead_letter,
)
from shared.domain.api_keys import Scope
from shared.domain.ids import CommandId

ROUTES: Final = RouteTable()

PATH: Final = "/v1/operator/dead-letters"


class DeadLetterBody(TypedDict):
    """A message that no service could process. `exchange`, `key`: where it came from; `kind`: its AMQP type."""

    id: str
    reason: str
    since: str | None
    exchange: str
    key: str
    kind: str
    bytes: int
    retries: int
    links: dict[str, str]


class WholeDeadLetterBody(DeadLetterBody):
    """The same with its content."""

    headers: dict[str, str | int]
    reply_to: str | None
    body: str


class EndedCommandBody(TypedDict):
    """A command in the message. `status` is `pending` while it has no outcome."""

    id: str
    status: Literal["pending", "posted", "rejected"]
    code: str | None
    recorded_at: str | None
    links: dict[str, str]


class EndedDeadLetterBody(TypedDict):
    """A decision about a dead letter, as the journal keeps it. `facts`: what the message was.

    `commands`: the first 200 in it, each with its outcome; one recorded before the decision was decided long before.
    """

    id: str
    decision: DeadLetterVerb
    why: str | None
    recorded_at: str
    facts: dict[str, object]
    commands: list[EndedCommandBody]
    links: dict[str, str]


DeadLetterPage = TypedDict("DeadLetterPage", {"data": list[DeadLetterBody], "next": str | None})  # noqa: UP013 - the API calls the field `data`


class DeadLetterResolve(Body):
    """`reason`: why the message is of no use."""

    reason: ReferenceText


@ROUTES.add("GET", PATH, scopes=(Scope.ADMIN,), query=ListQuery, answers={200: DeadLetterPage})
async def show_all(context: RequestContext) -> HttpResponse:
    """Messages that no service could process, oldest first."""
    query = context.query(ListQuery)
    position = context.state.instants.position
    since, identity = position_of(context, query, [-1, ""])
    found = await dead_letters(context.state, (int(since), str(identity)), query.limit + 1)
    rows, following = page(context, query, found, lambda row: list(row.place))
    return list_response([_body(letter) for letter in rows], following, position)


@ROUTES.add("GET", f"{PATH}/{{id}}", scopes=(Scope.ADMIN,), answers={200: WholeDeadLetterBody})
async def show(context: RequestContext) -> HttpResponse:
    """One such message, whole."""
    letter = await dead_letter(context.state, context.path["id"])
    whole: WholeDeadLetterBody = {
        **_body(letter),
        "headers": dict(letter.headers),
        "reply_to": letter.reply_to,
        "body": letter.body.decode("utf-8", "backslashreplace"),
    }
    return json_response(200, whole)


@ROUTES.add("POST", f"{PATH}/{{id}}/retry", scopes=(Scope.ADMIN,), answers={200: EndedDeadLetterBody})
async def retry(context: RequestContext) -> HttpResponse:
    """Send a message back to where it came from. A command that has an outcome has no effect again."""
    return await _end(context, "retry", None)


@ROUTES.add(
    "POST",
    f"{PATH}/{{id}}/resolve",
    scopes=(Scope.ADMIN,),
    body=DeadLetterResolve,
    answers={200: EndedDeadLetterBody},
)
async def resolve(context: RequestContext) -> HttpResponse:
    """Remove a message for good. The journal keeps who did it and why, but not the message's body."""
    return await _end(context, "resolve", (await context.body(DeadLetterResolve)).reason)


async def _end(context: RequestContext, decision: DeadLetterVerb, why: str | None) -> HttpResponse:
    identity = context.path["id"]
    write = begin_write(context, identity, why)
    submission = await end_dead_letter(write, decision, identity, why)

    async def ended() -> EndedDeadLetterBody:
        return _ended(await ended_dead_letter(write.state, write.id, write.wait_s), write.id)

    return await answer_write(submission, 200, ended)


def _body(letter: DeadLetter) -> DeadLetterBody:
    path = f"{PATH}/{letter.id}"
    links = {"self": path, "resolve": f"{path}/resolve"}
    if letter.exchange:
        links["retry"] = f"{path}/retry"
    return {
        "id": letter.id,
        "reason": letter.reason,
        "since": None if letter.since is None else instant_text(microseconds_of(letter.since)),
        "exchange": letter.exchange,
        "key": letter.key,
        "kind": letter.kind,
        "bytes": letter.size,
        "retries": letter.retries,
        "links": links,
    }


def _ended(ended: EndedDeadLetter, operation: CommandId) -> EndedDeadLetterBody:
    commands: list[EndedCommandBody] = []
    for identity in ended.commands:
        outcome = ended.outcomes.get(identity)
        commands.append(
            {
                "id": identity,
                "status": "pending" if outcome is None else "posted" if outcome.code is None else "rejected",
                "code": None if outcome is None else outcome.code,
                "recorded_at": None if outcome is None else instant_text(outcome.recorded_at_us),
                "links": {"operation": f"/v1/operations/{identity}"},
            }
        )
    return {
        "id": ended.id,
        "decision": ended.decision,
        "why": ended.why,
        "recorded_at": instant_text(ended.recorded_at_us),
        "facts": dict(ended.facts),
        "commands": commands,
        "links": {"operation": f"/v1/operations/{operation}"},
    }
