"""/v1/operator/deposits: sweeps of deposits, those that wait or are stuck first, and how each ends."""

from functools import partial
from typing import Final, Literal, NotRequired, get_args

from typing_extensions import TypedDict

from services.gateway.api.decisions import Decide, DecisionTaken, answer_decision, decision_taken
from services.gateway.api.writes import begin_write
from services.gateway.http.instants import instant_of, instant_text
from services.gateway.http.paging import page, position_of
from services.gateway.http.queries import ListQuery
from services.gateway.http.request import RequestContext
from services.gateway.http.response import HttpResponse, json_response, list_response
from services.gateway.http.routing import RouteTable
from services.gateway.store.sweeps import SWEEP_STATUSES, OperatedSweep, list_operated_sweeps
from services.gateway.usecases.sweeps import decide_sweep, operated_sweep
from shared.domain.api_keys import Scope
from shared.domain.money import format_amount
from shared.mixer.jobcoin_rows import COIN_SCALE
from shared.mixer.sweep_decisions import SweepVerb, sweep_refusal

ROUTES: Final = RouteTable()

PATH: Final = "/v1/operator/deposits"
VERBS: Final[tuple[SweepVerb, ...]] = get_args(SweepVerb)
NO_ID: Final = "00000000-0000-0000-0000-000000000000"


class OperatedSweepBody(TypedDict):
    """Deposits of one address that are swept together. `reason`: why they wait or are stuck.

    `attempts`: how often the present step failed. `links` has what can be decided now.
    """

    id: str
    mix: str
    address: str
    amount: str
    planned_at: str
    status: str
    attempts: int
    reason: NotRequired[str]
    decision: NotRequired[DecisionTaken]
    links: dict[str, str]


OperatedSweepPage = TypedDict("OperatedSweepPage", {"data": list[OperatedSweepBody], "next": str | None})  # noqa: UP013 - the API calls the field `data`


class OperatedSweepsQuery(ListQuery):
    """What is stuck comes first, then what waits; within each, what was planned first."""

    status: Literal["stuck", "waiting", "sweeping", "resolved", "credited"] | None = None


@ROUTES.add("GET", PATH, scopes=(Scope.ADMIN,), query=OperatedSweepsQuery, answers={200: OperatedSweepPage})
async def show_all(context: RequestContext) -> HttpResponse:
    """Deposits on their way in, those that need an operator first."""
    query = context.query(OperatedSweepsQuery)
    position = context.state.instants.position
    first = 0 if query.status is None else SWEEP_STATUSES.index(query.status)
    last = len(SWEEP_STATUSES) - 1 if query.status is None else first
    attention, planned_at_us, identity = position_of(context, query, [first, 0, NO_ID])
    place = int(attention), instant_of(int(planned_at_us)), str(identity)
    found = await list_operated_sweeps(context.state.database, place, last, query.limit + 1)
    rows, following = page(context, query, found, lambda row: [row.attention, row.planned_at_us, row.id])
    return list_response([_body(row) for row in rows], following, position)


@ROUTES.add("GET", f"{PATH}/{{id}}", scopes=(Scope.ADMIN,), answers={200: OperatedSweepBody})
async def show(context: RequestContext) -> HttpResponse:
    """Deposits that are swept together."""
    return json_response(200, await _shown(context))


@ROUTES.add("POST", f"{PATH}/{{id}}/retry", scopes=(Scope.ADMIN,), body=Decide, answers={200: OperatedSweepBody})
async def retry(context: RequestContext) -> HttpResponse:
    """Try deposits that wait or are stuck again now."""
    return await _decide(context, "retry")


@ROUTES.add("POST", f"{PATH}/{{id}}/resolve", scopes=(Scope.ADMIN,), body=Decide, answers={200: OperatedSweepBody})
async def resolve(context: RequestContext) -> HttpResponse:
    """Write deposits off: they are never swept or credited."""
    return await _decide(context, "resolve")


async def _decide(context: RequestContext, verb: SweepVerb) -> HttpResponse:
    why = (await context.body(Decide)).why
    identity = context.path["id"]
    write = begin_write(context, identity, why)
    submission, is_applied = await decide_sweep(write, verb, identity, why)
    return await answer_decision(submission, partial(_shown, context), is_applied=is_applied)


async def _shown(context: RequestContext) -> OperatedSweepBody:
    return _body(await operated_sweep(context.state, context.path["id"]))


def _body(sweep: OperatedSweep) -> OperatedSweepBody:
    path = f"{PATH}/{sweep.id}"
    links = {"self": path, "mix": f"/v1/mixes/{sweep.mix}"}
    links |= {verb: f"{path}/{verb}" for verb in VERBS if sweep_refusal(verb, sweep.standing) is None}
    body: OperatedSweepBody = {
        "id": sweep.id,
        "mix": sweep.mix,
        "address": sweep.address,
        "amount": format_amount(sweep.amount_units, COIN_SCALE),
        "planned_at": instant_text(sweep.planned_at_us),
        "status": sweep.status,
        "attempts": sweep.attempts,
        "links": links,
    }
    if sweep.reason is not None:
        body["reason"] = sweep.reason
    if sweep.operation is not None and sweep.verb is not None:
        body["decision"] = decision_taken(sweep.operation, sweep.verb, applied=bool(sweep.is_applied))
    return body
