"""/v1/mixes: coins that come in at a fresh address go out to others. The deposit poller decides about orders."""

import re
from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, WithJsonSchema
from typing_extensions import TypedDict

from services.gateway.commands import identify, submit
from services.gateway.context import not_found
from services.gateway.fields import fingerprint
from services.gateway.pages import cursor_after, position_of
from services.gateway.problems import invalid
from services.gateway.routes import Call, Route
from services.gateway.store.mixes import MixFacts, list_mixes, read_mix
from services.gateway.store.transaction_lists import END_OF_TIME
from services.gateway.web.answers import AWARE_EPOCH, Answer, instant_text
from services.gateway.web.bodies import Body
from services.gateway.web.queries import ListQuery
from shared.api_keys import Scope
from shared.ids import UUID_TEXT
from shared.messages import MixCreate
from shared.messages.mixer import (
    DELAY_MS_MAX,
    DELAY_MS_MAX_DEFAULT,
    DELAY_MS_MIN_DEFAULT,
    DESTINATIONS_MAX,
    FEE_PPM_MAX,
    Destination,
    deposit_address,
    mix_id,
)
from shared.money import format_amount

ASSET: Final = "JOB"
PERCENT: Final = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,4}))?", re.ASCII)
FRACTION_DIGITS: Final = 4
DELAY_S_MAX: Final = DELAY_MS_MAX // 1_000
LAST_ID: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"


def ppm_of(text: str) -> int:
    """Parts per million of a percentage such as "2.5". Raises ValueError."""
    match = PERCENT.fullmatch(text)
    ppm = int(match[1] + (match[2] or "").ljust(FRACTION_DIGITS, "0")) if match else FEE_PPM_MAX + 1
    if ppm > FEE_PPM_MAX:
        raise ValueError('a percentage of 0 to 100 with at most four fraction digits is expected, such as "2.5"')
    return ppm


def read_percent(percent: object) -> object:
    """The text of a percentage, from a text or a whole number. Raises ValueError for a text that is none."""
    text = str(percent) if isinstance(percent, int) and not isinstance(percent, bool) else percent
    if isinstance(text, str):
        ppm_of(text)
    return text


Percent = Annotated[
    str,
    BeforeValidator(read_percent),
    WithJsonSchema({"type": "string", "pattern": f"^{PERCENT.pattern}$", "examples": ["2.5"]}),
]
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
    """One increment."""

    destination: str
    amount: str
    due_at: str
    status: str


class MixBody(TypedDict):
    """A mix: waiting, sweeping, paying, completed or stuck."""

    id: str
    deposit_address: str
    destinations: list[str]
    fee_percent: str
    status: str
    received: str
    fee: str
    paid: str
    remaining: str
    next_due_at: str | None
    payouts: list[PayoutBody]
    links: dict[str, str]


MixPage = TypedDict("MixPage", {"data": list[MixBody], "next": str | None})  # noqa: UP013 - the API calls the field `data`
MIX: TypeAdapter[MixBody] = TypeAdapter(MixBody)
PAGE: TypeAdapter[MixPage] = TypeAdapter(MixPage)


class MixesQuery(ListQuery):
    """Newest first."""

    status: Literal["waiting", "sweeping", "paying", "completed", "stuck"] | None = None


async def create(call: Call) -> Answer:
    """Orders a mix. Everything that the answer shows follows from the order, so a replay shows the same."""
    body = await call.body(MixNew)
    low, high = DELAY_MS_MIN_DEFAULT, DELAY_MS_MAX_DEFAULT
    if body.delay_s is not None:
        low, high = (round(seconds * 1_000) for seconds in (body.delay_s.min, body.delay_s.max))
        if low > high:
            raise invalid("delay_s.min", "is greater than delay_s.max")
    identity, fee_ppm = identify(call), ppm_of(body.fee_percent)
    order = MixCreate(
        id=identity.id,
        principal=call.caller.principal,
        fingerprint=fingerprint("POST /v1/mixes", body.destinations, fee_ppm, low, high),
        destinations=tuple(body.destinations),
        fee_ppm=fee_ppm,
        delay_ms_min=low,
        delay_ms_max=high,
    )
    posted = await submit(call, order, None, repeat=identity.repeat)
    return posted if isinstance(posted, Answer) else posted.answer(201, MIX.dump_json(_new(order)))


async def show(call: Call) -> Answer:
    """One mix."""
    mix = call.path["id"]
    facts = await read_mix(call.gateway.database, mix) if UUID_TEXT.fullmatch(mix) else None
    if facts is None or not (call.caller.admin or facts.owner == call.caller.principal):
        raise not_found("mix")
    return Answer(200, MIX.dump_json(_shown(facts, await call.gateway.assets.scale(ASSET))))


async def show_all(call: Call) -> Answer:
    """Mixes, newest first."""
    query = call.query(MixesQuery)
    position = position_of(call, query)
    created_at, last = END_OF_TIME, LAST_ID
    if position is not None:
        created_at, last = AWARE_EPOCH + timedelta(microseconds=int(position[0])), str(position[1])
    owner = None if call.caller.admin else call.caller.principal
    found = await list_mixes(
        call.gateway.database, owner=owner, status=query.status, created_at=created_at, mix=last, limit=query.limit + 1
    )
    page = found[: query.limit]
    following = cursor_after(call, query, [page[-1].created_at_us, page[-1].id]) if len(found) > len(page) else None
    scale = await call.gateway.assets.scale(ASSET)
    return Answer(200, PAGE.dump_json({"data": [_shown(each, scale) for each in page], "next": following}))


def _new(order: MixCreate) -> MixBody:
    mix = mix_id(order.id)
    return {
        "id": mix,
        "deposit_address": deposit_address(order.id),
        "destinations": list(order.destinations),
        "fee_percent": format_amount(order.fee_ppm, FRACTION_DIGITS),
        "status": "waiting",
        "received": "0",
        "fee": "0",
        "paid": "0",
        "remaining": "0",
        "next_due_at": None,
        "payouts": [],
        "links": {"self": f"/v1/mixes/{mix}", "operation": f"/v1/operations/{order.id}"},
    }


def _shown(facts: MixFacts, scale: int) -> MixBody:
    return {
        "id": facts.id,
        "deposit_address": facts.deposit_address,
        "destinations": list(facts.destinations),
        "fee_percent": format_amount(facts.fee_ppm, FRACTION_DIGITS),
        "status": facts.status,
        "received": format_amount(facts.received, scale),
        "fee": format_amount(facts.fee, scale),
        "paid": format_amount(facts.paid, scale),
        "remaining": format_amount(facts.remaining, scale),
        "next_due_at": None if facts.next_due_at_us is None else instant_text(facts.next_due_at_us),
        "payouts": [
            {
                "destination": payout.destination,
                "amount": format_amount(payout.amount, scale),
                "due_at": instant_text(payout.due_at_us),
                "status": payout.status,
            }
            for payout in facts.payouts
        ],
        "links": {"self": f"/v1/mixes/{facts.id}", "operation": f"/v1/operations/{facts.operation_id}"},
    }


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/mixes",
        handler=show_all,
        scope=Scope.READ,
        query=MixesQuery,
        answers={200: MixPage},
        summary="Mixes, newest first",
    ),
    Route(
        method="POST",
        path="/v1/mixes",
        handler=create,
        scope=Scope.PAYOUT,
        body=MixNew,
        answers={201: MixBody},
        summary="Order a mix",
        writes=True,
    ),
    Route(
        method="GET",
        path="/v1/mixes/{id}",
        handler=show,
        scope=Scope.READ,
        answers={200: MixBody},
        summary="One mix",
    ),
)
