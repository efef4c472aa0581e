"""/v1/mixes."""

from typing import Annotated, Final, Literal, NotRequired

from pydantic import Field, StringConstraints
from typing_extensions import TypedDict

from services.gateway.api.writes import answer_write, begin_write
from services.gateway.http.instants import instant_of, instant_text, microseconds_of
from services.gateway.http.paging import cursor_at, page, position_of
from services.gateway.http.problems import invalid_field
from services.gateway.http.queries import ListQuery
from services.gateway.http.request import Body, RequestContext
from services.gateway.http.response import HttpResponse, json_response, list_response
from services.gateway.http.routing import RouteTable
from services.gateway.store.mixes import MixFacts, PayoutFacts, list_mixes, list_payouts, read_minimum
from services.gateway.store.transaction_lists import END_OF_TIME
from services.gateway.usecases.faults import NotFound
from services.gateway.usecases.mixes import ASSET, mix, order_mix
from shared.domain.api_keys import Scope
from shared.domain.money import format_amount, parse_amount
from shared.messages.mixer import (
    DELAY_MS_MAX,
    DELAY_MS_MAX_DEFAULT,
    DELAY_MS_MIN_DEFAULT,
    DESTINATIONS_MAX,
    Destination,
    MixCreate,
    deposit_address,
    mix_id,
)

ROUTES: Final = RouteTable()

PERCENT_PATTERN: Final = r"^[0-9]{1,2}(\.[0-9]{1,4})?$"
FRACTION_DIGITS: Final = 4  # one percent is 10,000 parts per million
DELAY_S_MAX: Final = DELAY_MS_MAX // 1_000
# A position newer than every mix: created_at in microseconds since 1970, id.
START: Final = (microseconds_of(END_OF_TIME), "ffffffff-ffff-ffff-ffff-ffffffffffff")
# A position before every payout: due_at in microseconds since 1970, id.
FIRST_PAYOUT: Final = (0, "00000000-0000-0000-0000-000000000000")


Percent = Annotated[str, StringConstraints(pattern=PERCENT_PATTERN), Field(examples=["2.5"])]


def ppm_of(percent: str) -> int:
    """Parts per million of a percentage that matches PERCENT_PATTERN, such as "2.5"."""
    return parse_amount(percent, FRACTION_DIGITS) if percent.strip("0.") else 0


Seconds = Annotated[float, Field(ge=0, le=DELAY_S_MAX)]


class DelayNew(Body):
    """How long after the credit an increment may leave, in seconds."""

    min: Seconds
    max: Seconds


class MixNew(Body):
    """What arrives at the mix's address is paid on to these addresses, less the fee."""

    destinations: Annotated[list[Destination], Field(min_length=1, max_length=DESTINATIONS_MAX)]
    fee_percent: Percent = "0"
    delay_s: DelayNew | None = None


class PayoutBody(TypedDict):
    """One increment: planned, sending, paid or stuck. `reason`: why it waits or is stuck."""

    destination: str
    amount: str
    due_at: str
    status: str
    reason: NotRequired[str]


class MixBody(TypedDict):
    """A mix: waiting, sweeping, paying, completed or stuck. `minimum`: what its address must hold to be credited.

    `reason`: why it is stuck, or waits for another try.
    """

    id: str
    deposit_address: str
    destinations: list[str]
    fee_percent: str
    status: str
    minimum: str
    received: str
    fee: str
    paid: str
    remaining: str
    next_due_at: str | None
    reason: NotRequired[str]
    links: dict[str, str]


PayoutPage = TypedDict("PayoutPage", {"data": list[PayoutBody], "next": str | None})  # noqa: UP013 - the API calls the field `data`
MixPage = TypedDict("MixPage", {"data": list[MixBody], "next": str | None})  # noqa: UP013 - as above


class MixesQuery(ListQuery):
    """Newest first. With `status`, a page may hold few mixes or none, and `next` still lead to older ones."""

    status: Literal["waiting", "sweeping", "paying", "completed", "stuck"] | None = None


@ROUTES.add("POST", "/v1/mixes", scopes=(Scope.PAYOUT,), body=MixNew, answers={201: MixBody})
async def create(context: RequestContext) -> HttpResponse:
    """Order a mix. All that the answer shows never changes after it, so a repeat shows the same."""
    body = await context.body(MixNew)
    low, high = DELAY_MS_MIN_DEFAULT, DELAY_MS_MAX_DEFAULT
    if body.delay_s is not None:
        low, high = (round(seconds * 1_000) for seconds in (body.delay_s.min, body.delay_s.max))
        if low > high:
            raise invalid_field("delay_s.min", "is greater than delay_s.max")
    fee_ppm = ppm_of(body.fee_percent)
    write = begin_write(context, body.destinations, fee_ppm, low, high)
    order, submission = await order_mix(write, body.destinations, fee_ppm, low, high)

    async def show_order() -> MixBody:
        minimum = await read_minimum(context.state.database, mix_id(order.id))
        if minimum is None:
            raise NotFound("mix")
        return _ordered(order, format_amount(minimum, await context.state.assets.scale(ASSET)))

    return await answer_write(submission, 201, show_order)


@ROUTES.add("GET", "/v1/mixes/{id}", scopes=(Scope.READ,), answers={200: MixBody})
async def show(context: RequestContext) -> HttpResponse:
    """One mix."""
    facts = await mix(context.state, context.caller, context.path["id"])
    return json_response(200, _shown(facts, await context.state.assets.scale(ASSET)))


@ROUTES.add("GET", "/v1/mixes", scopes=(Scope.READ,), query=MixesQuery, answers={200: MixPage})
async def show_all(context: RequestContext) -> HttpResponse:
    """Mixes, newest first."""
    query = context.query(MixesQuery)
    position = context.state.instants.position  # before the rows are read: what comes after it may still be missing
    created_at_us, identity = position_of(context, query, START)
    place = instant_of(int(created_at_us)), str(identity)
    database, owner = context.state.database, context.caller.sees_only
    found = await list_mixes(database, owner, query.status, place, query.limit)
    following = None
    if found.read_on is not None:
        created_at, identity = found.read_on
        following = cursor_at(context, query, [microseconds_of(created_at), identity])
    scale = await context.state.assets.scale(ASSET)
    return list_response([_shown(row, scale) for row in found.mixes], following, position)


@ROUTES.add("GET", "/v1/mixes/{id}/payouts", scopes=(Scope.READ,), query=ListQuery, answers={200: PayoutPage})
async def show_payouts(context: RequestContext) -> HttpResponse:
    """What a mix pays, in the order in which it is due."""
    query = context.query(ListQuery)
    position = context.state.instants.position
    due_at_us, identity = position_of(context, query, FIRST_PAYOUT)
    facts = await mix(context.state, context.caller, context.path["id"])
    place = instant_of(int(due_at_us)), str(identity)
    found = await list_payouts(context.state.database, facts.id, place, query.limit + 1)
    rows, following = page(context, query, found, lambda row: [row.due_at_us, row.id])
    scale = await context.state.assets.scale(ASSET)
    return list_response([_payout(row, scale) for row in rows], following, position)


def _links(identity: str, operation: str) -> dict[str, str]:
    path = f"/v1/mixes/{identity}"
    return {"self": path, "payouts": f"{path}/payouts", "operation": f"/v1/operations/{operation}"}


def _payout(facts: PayoutFacts, scale: int) -> PayoutBody:
    body: PayoutBody = {
        "destination": facts.destination,
        "amount": format_amount(facts.amount, scale),
        "due_at": instant_text(facts.due_at_us),
        "status": facts.status,
    }
    if facts.reason is not None:
        body["reason"] = facts.reason
    return body


def _ordered(order: MixCreate, minimum: str) -> MixBody:
    identity = mix_id(order.id)
    return {
        "id": identity,
        "deposit_address": deposit_address(order.id),
        "destinations": list(order.destinations),
        "fee_percent": format_amount(order.fee_ppm, FRACTION_DIGITS),
        "status": "waiting",
        "minimum": minimum,
        "received": "0",
        "fee": "0",
        "paid": "0",
        "remaining": "0",
        "next_due_at": None,
        "links": _links(identity, order.id),
    }


def _shown(facts: MixFacts, scale: int) -> MixBody:
    body: MixBody = {
        "id": facts.id,
        "deposit_address": facts.deposit_address,
        "destinations": list(facts.destinations),
        "fee_percent": format_amount(facts.fee_ppm, FRACTION_DIGITS),
        "status": facts.status,
        "minimum": format_amount(facts.minimum, scale),
        "received": format_amount(facts.received, scale),
        "fee": format_amount(facts.fee, scale),
        "paid": format_amount(facts.paid, scale),
        "remaining": format_amount(facts.remaining, scale),
        "next_due_at": None if facts.next_due_at_us is None else instant_text(facts.next_due_at_us),
        "links": _links(facts.id, facts.operation_id),
    }
    if facts.reason is not None:
        body["reason"] = facts.reason
    return body
