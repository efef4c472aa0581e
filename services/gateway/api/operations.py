"""/v1/operations: the outcome of a write, and how a client ends one that has no outcome."""

from typing import Annotated, Final, Literal, NotRequired

from pydantic import Field, StringConstraints
from typing_extensions import TypedDict

from services.gateway.api.transactions import TransactionBody, transaction_body
from services.gateway.api.writes import WAIT_S_MAX, answer_write, begin_write
from services.gateway.http.instants import instant_text
from services.gateway.http.problems import Problem
from services.gateway.http.queries import Digits, Query
from services.gateway.http.request import RequestContext
from services.gateway.http.response import HttpResponse, json_response
from services.gateway.http.routing import RouteTable
from services.gateway.store.operations import RecordedOperation
from services.gateway.usecases.faults import NotFound
from services.gateway.usecases.operations import CANCEL_KIND, cancel_operation, operation, scale_of
from services.gateway.usecases.submit import recorded_rejection
from services.gateway.usecases.transactions import scales_of, transaction
from shared.domain.api_keys import Scope
from shared.domain.money import format_amount
from shared.domain.rejections import Rejection

ROUTES: Final = RouteTable()

COLLECTIONS: Final = {"account": "accounts", "asset": "assets", "mix": "mixes"}


class OperationBody(TypedDict):
    """A command and its state. `code`, and funds, where it was rejected; `transaction` where it moved money."""

    id: str
    kind: str | None
    status: Literal["pending", "posted", "rejected"]
    code: NotRequired[str]
    available: NotRequired[str]
    required: NotRequired[str]
    transaction: NotRequired[TransactionBody]
    recorded_at: NotRequired[str]
    links: dict[str, str]


class OperationQuery(Query):
    """`of` binds the question to what was sent; `wait` is in seconds."""

    of: Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")] | None = None
    wait: Digits = Field(default=0, ge=0, le=WAIT_S_MAX)


@ROUTES.add("GET", "/v1/operations/{id}", scopes=(Scope.READ,), query=OperationQuery, answers={200: OperationBody})
async def show(context: RequestContext) -> HttpResponse:
    """What became of a write."""
    query = context.query(OperationQuery)
    recorded = await operation(context.state, context.caller, context.path["id"], query.wait)
    if recorded is not None and query.of is not None and not recorded.has_content(query.of):
        raise Problem(Rejection.IDEMPOTENCY_KEY_REUSED, "the id holds the outcome of other content")
    return json_response(200, await _body(context, recorded))


@ROUTES.add("POST", "/v1/operations/{id}/cancel", scopes=(Scope.PAYOUT, Scope.WRITE), answers={200: OperationBody})
async def cancel(context: RequestContext) -> HttpResponse:
    """End an operation without an outcome for good. One that has an outcome is shown."""
    identity = context.path["id"]
    submission = await cancel_operation(begin_write(context, identity), identity)

    async def show_operation() -> OperationBody:
        return await _body(context, await operation(context.state, context.caller, identity, 0))

    return await answer_write(submission, 200, show_operation)


async def _body(context: RequestContext, recorded: RecordedOperation | None) -> OperationBody:
    """The operation as clients see it; to a key without `read` only whether it was posted or why it was rejected."""
    path = f"/v1/operations/{context.path['id']}"
    if recorded is None:
        links = {"self": path, "cancel": f"{path}/cancel"}
        return {"id": context.path["id"], "kind": None, "status": "pending", "links": links}
    body: OperationBody = {
        "id": recorded.id,
        # An operation that was cancelled before it was decided has left no kind in the journal.
        "kind": None if recorded.kind == CANCEL_KIND else recorded.kind.removesuffix(".v1"),
        "status": "posted" if recorded.outcome == "posted" else "rejected",
        "recorded_at": instant_text(recorded.recorded_at_us),
        "links": {"self": path},
    }
    if not context.caller.may(Scope.READ):
        if recorded.code is not None:
            body["code"] = recorded.code
        return body
    if recorded.outcome != "posted":
        await _add_rejection(context, recorded, body)
    elif recorded.postings is not None:
        await _add_transaction(context, recorded, body)
    elif recorded.subject is not None:
        noun = recorded.kind.partition(".")[0]
        if noun in COLLECTIONS:
            # The subject of the order of a mix is the account `mix:<id>`.
            named = recorded.subject.removeprefix("mix:") if noun == "mix" else recorded.subject
            body["links"][noun] = f"/v1/{COLLECTIONS[noun]}/{named}"
    return body


async def _add_rejection(context: RequestContext, recorded: RecordedOperation, body: OperationBody) -> None:
    rejected = recorded_rejection(recorded, recorded.fingerprint)
    if rejected is None:
        raise ValueError(f"operation {recorded.id} was not rejected")
    body["code"] = rejected.code.value
    scale = await scale_of(context.state, recorded)
    if scale is not None and rejected.available is not None and rejected.required is not None:
        body["available"] = format_amount(rejected.available, scale)
        body["required"] = format_amount(rejected.required, scale)


async def _add_transaction(context: RequestContext, recorded: RecordedOperation, body: OperationBody) -> None:
    try:
        facts = await transaction(context.state, context.caller, recorded.id)
    except NotFound:
        return  # it moved money between accounts of others
    body["transaction"] = transaction_body(facts, await scales_of(context.state, [facts]))
    body["links"]["transaction"] = f"/v1/transactions/{recorded.id}"
