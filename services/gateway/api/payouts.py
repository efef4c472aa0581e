"""/v1/operator/payouts: what the mixer pays, those that wait or are stuck first, and how each ends."""

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
from services.gateway.store.payouts import STATUSES, OperatedPayout, list_operated_payouts
from services.gateway.usecases.mixes import ASSET
from services.gateway.usecases.payouts import decide_payout, operated_payout
from shared.domain.api_keys import Scope
from shared.domain.money import format_amount
from shared.mixer.payout_decisions import PayoutVerb, refusal_of

ROUTES: Final = RouteTable()

PATH: Final = "/v1/operator/payouts"
VERBS: Final[tuple[PayoutVerb, ...]] = get_args(PayoutVerb)
NO_ID: Final = "00000000-0000-0000-0000-000000000000"


class OperatedPayoutBody(TypedDict):
    """A payout. `reason`: why it waits or is stuck; `attempts`: how often its present step failed.

    `links` has what can be decided about it now.
    """

    id: str
    mix: str
    destination: str
    amount: str
    due_at: str
    status: str
    attempts: int
    reason: NotRequired[str]
    decision: NotRequired[DecisionTaken]
    links: dict[str, str]


OperatedPayoutPage = TypedDict("OperatedPayoutPage", {"data": list[OperatedPayoutBody], "next": str | None})  # noqa: UP013 - the API calls the field `data`


class OperatedPayoutsQuery(ListQuery):
    """What is stuck comes first, then what waits; within each, what was due first."""

    status: Literal["stuck", "waiting", "sending", "planned", "cancelled", "resolved", "paid"] | None = None


@ROUTES.add("GET", PATH, scopes=(Scope.ADMIN,), query=OperatedPayoutsQuery, answers={200: OperatedPayoutPage})
async def show_all(context: RequestContext) -> HttpResponse:
    """Payouts, those that need an operator first."""
    query = context.query(OperatedPayoutsQuery)
    position = context.state.instants.position
    first = 0 if query.status is None else STATUSES.index(query.status)
    last = len(STATUSES) - 1 if query.status is None else first
    attention, due_at_us, identity = position_of(context, query, [first, 0, NO_ID])
    place = int(attention), instant_of(int(due_at_us)), str(identity)
    found = await list_operated_payouts(context.state.database, place, last, query.limit + 1)
    rows, following = page(context, query, found, lambda row: [row.attention, row.due_at_us, row.id])
    scale = await context.state.assets.scale(ASSET)
    return list_response([_body(row, scale) for row in rows], following, position)


@ROUTES.add("GET", f"{PATH}/{{id}}", scopes=(Scope.ADMIN,), answers={200: OperatedPayoutBody})
async def show(context: RequestContext) -> HttpResponse:
    """One payout."""
    return json_response(200, await _shown(context))


@ROUTES.add("POST", f"{PATH}/{{id}}/retry", scopes=(Scope.ADMIN,), body=Decide, answers={200: OperatedPayoutBody})
async def retry(context: RequestContext) -> HttpResponse:
    """Try a payout that waits or is stuck again now."""
    return await _decide(context, "retry")


@ROUTES.add("POST", f"{PATH}/{{id}}/resolve", scopes=(Scope.ADMIN,), body=Decide, answers={200: OperatedPayoutBody})
async def resolve(context: RequestContext) -> HttpResponse:
    """Say that a payout was paid by other means. Its hold is captured, and nothing is sent."""
    return await _decide(context, "resolve")


@ROUTES.add("POST", f"{PATH}/{{id}}/cancel", scopes=(Scope.ADMIN,), body=Decide, answers={200: OperatedPayoutBody})
async def cancel(context: RequestContext) -> HttpResponse:
    """Give up a payout for which nothing was sent. Its hold is voided, and the amount stays on the mix's account."""
    return await _decide(context, "cancel")


async def _decide(context: RequestContext, verb: PayoutVerb) -> HttpResponse:
    why = (await context.body(Decide)).why
    identity = context.path["id"]
    write = begin_write(context, identity, why)
    submission, is_applied = await decide_payout(write, verb, identity, why)
    return await answer_decision(submission, partial(_shown, context), is_applied=is_applied)


async def _shown(context: RequestContext) -> OperatedPayoutBody:
    payout = await operated_payout(context.state, context.path["id"])
    return _body(payout, await context.state.assets.scale(ASSET))


def _body(payout: OperatedPayout, scale: int) -> OperatedPayoutBody:
    path = f"{PATH}/{payout.id}"
    links = {"self": path, "mix": f"/v1/mixes/{payout.mix}"}
    links |= {verb: f"{path}/{verb}" for verb in VERBS if refusal_of(verb, payout.standing) is None}
    body: OperatedPayoutBody = {
        "id": payout.id,
        "mix": payout.mix,
        "destination": payout.destination,
        "amount": format_amount(payout.amount, scale),
        "due_at": instant_text(payout.due_at_us),
        "status": payout.status,
        "attempts": payout.attempts,
        "links": links,
    }
    if payout.reason is not None:
        body["reason"] = payout.reason
    if payout.decision is not None:
        taken = payout.decision
        body["decision"] = decision_taken(taken.operation, taken.verb, applied=taken.is_applied)
    return body
