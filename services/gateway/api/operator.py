"""/v1/operator: what waits for an operator, and how each ends."""

from typing import Final, Literal

from typing_extensions import TypedDict

from services.gateway.api.fields import AccountName, ReferenceText
from services.gateway.api.writes import answer_write, begin_write
from services.gateway.http.instants import instant_text, microseconds_of
from services.gateway.http.paging import page, position_of
from services.gateway.http.queries import ListQuery
from services.gateway.http.request import Body, RequestContext
from services.gateway.http.response import HttpResponse, json_response, list_response
from services.gateway.http.routing import RouteTable
from services.gateway.store.operator import (
    PartitionOwner,
    SuspenseItem,
    UnsettledRow,
    list_suspense,
    list_unsettled,
    read_partition_owners,
)
from services.gateway.usecases.suspense import resolve_suspense, suspense_item
from shared.domain.api_keys import Scope
from shared.domain.ids import Partition
from shared.domain.metadata import canonical_json
from shared.domain.money import format_amount
from shared.journal.suspense import item_key
from shared.journal.transit import TransitRowError, decode_credits

ROUTES: Final = RouteTable()


class SuspenseBody(TypedDict):
    """An amount on a suspense account. `operation`: the return that could not land; null for a whole transit row.

    `resolved_by`: the operation that moved it on, null while it waits.
    """

    id: str
    account: str
    amount: str
    asset: str
    operation: str | None
    recorded_at: str
    resolved_by: str | None
    links: dict[str, str]


class UnsettledCreditBody(TypedDict):
    """A credit that has left its source and not landed yet."""

    operation: str
    account: str
    amount: str
    asset: str
    links: dict[str, str]


class UnsettledBody(TypedDict):
    """What one batch sent to another partition. `credits` is null when they cannot be read."""

    source: int
    batch: int
    destination: int
    recorded_at: str
    credits: list[UnsettledCreditBody] | None
    links: dict[str, str]


class PartitionBody(TypedDict):
    """Who serves a partition. `backlog`: messages that wait in its queue, null when the broker does not say.

    `waiting_since`: since when its worker has had the oldest message that it has not decided, as of the last renewal of
    its lease; null when it has none, or when nobody serves the partition.
    """

    partition: int
    owner: str | None
    lease_expires_at: str | None
    batch: int
    recorded_at: str | None
    backlog: int | None
    waiting_since: str | None
    links: dict[str, str]


SuspensePage = TypedDict("SuspensePage", {"data": list[SuspenseBody], "next": str | None})  # noqa: UP013 - the API calls the field `data`
UnsettledPage = TypedDict("UnsettledPage", {"data": list[UnsettledBody], "next": str | None})  # noqa: UP013 - as above
PartitionPage = TypedDict("PartitionPage", {"data": list[PartitionBody], "next": str | None})  # noqa: UP013 - as above


class SuspenseQuery(ListQuery):
    """By account. `resolved=true` also shows what is done."""

    resolved: Literal["true", "false"] = "false"


class SuspenseResolve(Body):
    """Who gets the whole amount. `reason` stands in the transaction's metadata."""

    destination: AccountName
    reason: ReferenceText | None = None


@ROUTES.add("GET", "/v1/operator/suspense", scopes=(Scope.ADMIN,), query=SuspenseQuery, answers={200: SuspensePage})
async def suspense(context: RequestContext) -> HttpResponse:
    """Amounts that lie in suspense."""
    query = context.query(SuspenseQuery)
    position = context.state.instants.position  # before the rows are read: what comes after it may still be missing
    account, seq = position_of(context, query, ["", 0])
    place = str(account), int(seq)
    database = context.state.database
    found = await list_suspense(database, place, query.limit + 1, resolved=query.resolved == "true")
    rows, following = page(context, query, found, lambda row: [row.account_id, row.seq])
    return list_response([await _suspended(context, row) for row in rows], following, position)


@ROUTES.add("GET", "/v1/operator/suspense/{id}", scopes=(Scope.ADMIN,), answers={200: SuspenseBody})
async def show_suspense(context: RequestContext) -> HttpResponse:
    """One amount in suspense."""
    return json_response(200, await _suspended(context, await suspense_item(context.state, context.path["id"])))


@ROUTES.add(
    "POST",
    "/v1/operator/suspense/{id}/resolve",
    scopes=(Scope.ADMIN,),
    body=SuspenseResolve,
    answers={200: SuspenseBody},
)
async def resolve(context: RequestContext) -> HttpResponse:
    """Move an amount out of suspense to the account that gets it. It moves once, however often this is sent."""
    body = await context.body(SuspenseResolve)
    name = context.path["id"]
    metadata = None if body.reason is None else canonical_json({"reason": body.reason})
    write = begin_write(context, name, body.destination, metadata)
    submission = await resolve_suspense(write, name, body.destination, metadata)

    async def show() -> SuspenseBody:
        return await _suspended(context, await suspense_item(context.state, name))

    return await answer_write(submission, 200, show)


@ROUTES.add("GET", "/v1/operator/unsettled", scopes=(Scope.ADMIN,), query=ListQuery, answers={200: UnsettledPage})
async def unsettled(context: RequestContext) -> HttpResponse:
    """Credits that are on their way to another partition. Each lands once its partition is served."""
    query = context.query(ListQuery)
    position = context.state.instants.position
    destination, source, batch = position_of(context, query, [-1, -1, 0])
    place = int(destination), int(source), int(batch)
    found = await list_unsettled(context.state.database, place, query.limit + 1)
    rows, following = page(context, query, found, lambda row: [row.destination, row.source, row.batch])
    return list_response([await _unsettled(context, row) for row in rows], following, position)


@ROUTES.add("GET", "/v1/operator/partitions", scopes=(Scope.ADMIN,), answers={200: PartitionPage})
async def partitions(context: RequestContext) -> HttpResponse:
    """Who serves each partition, and what waits for it."""
    position = context.state.instants.position
    found = await read_partition_owners(context.state.database)
    backlogs = await context.state.ledger.backlogs()
    return list_response([_owned(row, backlogs.get(Partition(row.partition))) for row in found], None, position)


async def _suspended(context: RequestContext, item: SuspenseItem) -> SuspenseBody:
    name = item_key(item.account_id, item.seq)
    path = f"/v1/operator/suspense/{name}"
    links = {"self": path, "account": f"/v1/accounts/{item.account_id}"}
    if item.resolved_by is None:
        links["resolve"] = f"{path}/resolve"
    else:
        links["transaction"] = f"/v1/transactions/{item.resolved_by}"
    return {
        "id": name,
        "account": item.account_id,
        "amount": format_amount(item.amount, await context.state.assets.scale(item.asset)),
        "asset": item.asset,
        "operation": item.operation_id,
        "recorded_at": instant_text(microseconds_of(item.recorded_at)),
        "resolved_by": item.resolved_by,
        "links": links,
    }


async def _unsettled(context: RequestContext, row: UnsettledRow) -> UnsettledBody:
    scale = context.state.assets.scale
    try:
        credits: list[UnsettledCreditBody] | None = [
            {
                "operation": credit.operation,
                "account": credit.account,
                "amount": format_amount(credit.amount, await scale(credit.asset)),
                "asset": credit.asset,
                "links": {
                    "operation": f"/v1/operations/{credit.operation}",
                    "account": f"/v1/accounts/{credit.account}",
                },
            }
            for credit in decode_credits(row.credits)
        ]
    except TransitRowError:
        credits = None
    return {
        "source": row.source,
        "batch": row.batch,
        "destination": row.destination,
        "recorded_at": instant_text(microseconds_of(row.recorded_at)),
        "credits": credits,
        "links": {"partitions": "/v1/operator/partitions"},
    }


def _owned(row: PartitionOwner, backlog: int | None) -> PartitionBody:
    lease, last, since = row.lease_expires_at, row.recorded_at, row.waiting_since
    return {
        "partition": row.partition,
        "owner": row.owner,
        "lease_expires_at": None if lease is None else instant_text(microseconds_of(lease)),
        "batch": row.batch,
        "recorded_at": None if last is None else instant_text(microseconds_of(last)),
        "backlog": backlog,
        "waiting_since": None if since is None else instant_text(microseconds_of(since)),
        "links": {"unsettled": "/v1/operator/unsettled"},
    }
