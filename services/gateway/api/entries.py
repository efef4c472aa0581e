"""/v1/accounts/{id}/entries and /balance: an account's history, and what it held at an instant."""

from typing import Annotated, Final, get_args

from pydantic import AfterValidator, BaseModel, WithJsonSchema
from typing_extensions import TypedDict

from services.gateway.http.instants import Instant, instant_of, instant_text, microseconds_of
from services.gateway.http.paging import page, position_of
from services.gateway.http.queries import Query, TimedListQuery
from services.gateway.http.request import RequestContext
from services.gateway.http.response import HttpResponse, json_response, list_response
from services.gateway.http.routing import RouteTable
from services.gateway.store.accounts import read_balance_at
from services.gateway.store.entries import SEQ_MAX, EntryFacts, EntryFilter, list_entries
from services.gateway.store.transactions import parse_postings
from services.gateway.usecases.accounts import visible_account
from services.gateway.usecases.faults import NotFound
from shared.domain.api_keys import Scope
from shared.domain.money import format_amount
from shared.journal.transit import RETURN_KIND
from shared.messages import Command

ROUTES: Final = RouteTable()


class EntryBody(TypedDict):
    """What one operation did to the account. `delta` and `held_delta` are signed."""

    seq: int
    operation_id: str | None
    kind: str | None
    delta: str
    held_delta: str
    balance_after: str
    held_after: str
    counterparty: str | None
    recorded_at: str


EntryPage = TypedDict("EntryPage", {"data": list[EntryBody], "next": str | None})  # noqa: UP013 - the API calls the field `data`


class BalanceBody(TypedDict):
    """What the account held at the instant."""

    account: str
    asset: str
    balance: str
    held: str
    available: str
    overdraft_limit: str
    version: int
    at: str
    links: dict[str, str]


def _kinds() -> frozenset[str]:
    """The kinds of all commands that can have entries, and `return`, as clients see them."""
    models: tuple[type[BaseModel], ...] = get_args(get_args(Command)[0])
    kinds = [kind for model in models for kind in get_args(model.model_fields["kind"].annotation)]
    return frozenset(kind.removesuffix(".v1") for kind in (*kinds, RETURN_KIND) if not kind.startswith("operation."))


KINDS: Final = _kinds()


def known_kind(kind: str) -> str:
    """The kind itself. Raises ValueError for one that no entry can have."""
    if kind not in KINDS:
        raise ValueError(f"one of {', '.join(sorted(KINDS))} is expected")
    return kind


Kind = Annotated[str, AfterValidator(known_kind), WithJsonSchema({"type": "string", "enum": sorted(KINDS)})]


class EntriesQuery(TimedListQuery):
    """`kind` is an operation's, such as `transfer`."""

    kind: Kind | None = None


class BalanceQuery(Query):
    """Without `at`: now."""

    at: Instant | None = None


@ROUTES.add("GET", "/v1/accounts/{id}/entries", scopes=(Scope.READ,), query=EntriesQuery, answers={200: EntryPage})
async def show_all(context: RequestContext) -> HttpResponse:
    """An account's history, newest first."""
    query = context.query(EntriesQuery)
    seq_max, until_us = map(int, position_of(context, query, [SEQ_MAX, 0]))
    account = await visible_account(context.state, context.caller, context.path["id"])
    kind = None if query.kind is None else f"{query.kind}.v1"
    followed = await context.state.instants.follow(query.after_position, until_us)
    wanted = EntryFilter(seq_max, *query.times(followed.after_us, followed.until_us), kind)
    found = await list_entries(context.state.database, account, wanted, limit=query.limit + 1)
    rows, following = page(context, query, found, lambda row: [row.seq, followed.until_us or 0])
    scale = await context.state.assets.scale(account.asset)
    return list_response([_shown(row, account.id, scale) for row in rows], following, followed.position)


@ROUTES.add("GET", "/v1/accounts/{id}/balance", scopes=(Scope.READ,), query=BalanceQuery, answers={200: BalanceBody})
async def show_balance(context: RequestContext) -> HttpResponse:
    """What an account held after everything recorded until an instant, which is final: asked again, it is the same."""
    query = context.query(BalanceQuery)
    account = await visible_account(context.state, context.caller, context.path["id"])
    at_us = await context.state.instants.final_us(None if query.at is None else microseconds_of(query.at))
    if at_us < account.created_at_us:
        raise NotFound("account at that instant")
    then = await read_balance_at(context.state.database, account, instant_of(at_us))
    scale = await context.state.assets.scale(account.asset)
    body: BalanceBody = {
        "account": account.id,
        "asset": account.asset,
        "balance": format_amount(then.balance, scale),
        "held": format_amount(then.held, scale),
        "available": format_amount(then.balance - then.held + then.overdraft_limit, scale),
        "overdraft_limit": format_amount(then.overdraft_limit, scale),
        "version": then.version,
        "at": instant_text(at_us),
        "links": {"account": f"/v1/accounts/{account.id}"},
    }
    return json_response(200, body)


def _shown(entry: EntryFacts, account: str, scale: int) -> EntryBody:
    return {
        "seq": entry.seq,
        "operation_id": entry.operation_id,
        "kind": None if entry.kind is None else entry.kind.removesuffix(".v1"),
        "delta": format_amount(entry.delta, scale),
        "held_delta": format_amount(entry.held_delta, scale),
        "balance_after": format_amount(entry.balance_after, scale),
        "held_after": format_amount(entry.held_after, scale),
        "counterparty": _counterparty(entry, account),
        "recorded_at": instant_text(entry.recorded_at_us),
    }


def _counterparty(entry: EntryFacts, account: str) -> str | None:
    """The only other account of the postings; None if there is no or more than one other, or the balance stays."""
    if entry.postings is None or entry.delta == 0:
        return None
    others = {each for p in parse_postings(entry.postings) for each in (p.source, p.destination)} - {account}
    return others.pop() if len(others) == 1 else None
