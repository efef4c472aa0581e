"""/v1/accounts."""

import json
from typing import Final, Literal

from pydantic import ConfigDict, field_validator
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import TypedDict

from services.gateway.api.fields import AmountText, AssetName, Metadata, NewAccountName, OwnerName
from services.gateway.api.writes import answer_write, begin_write
from services.gateway.http.instants import instant_text
from services.gateway.http.paging import page, position_of
from services.gateway.http.problems import Problem, RequestFault
from services.gateway.http.queries import ListQuery
from services.gateway.http.request import Body, RequestContext
from services.gateway.http.response import HttpResponse, json_response, list_response
from services.gateway.http.routing import RouteTable
from services.gateway.store.accounts import AccountFilter, AccountState
from services.gateway.usecases.accounts import (
    AccountChangeOrder,
    AccountOrder,
    account_after,
    change_account,
    close_account,
    open_account,
    visible_account,
    visible_accounts,
)
from services.gateway.usecases.state import AppState
from services.gateway.usecases.submit import Submission, canonical_amount
from shared.domain.api_keys import Scope
from shared.domain.metadata import NO_METADATA, canonical_json
from shared.domain.money import format_amount

ROUTES: Final = RouteTable()


class AccountBody(TypedDict):
    """An account. `available` = balance - held + overdraft limit; `version` = sequence number of the last entry."""

    id: str
    asset: str
    owner: str
    status: str
    balance: str
    held: str
    available: str
    overdraft_limit: str
    version: int
    created_at: str
    metadata: dict[str, object] | None
    links: dict[str, str]


AccountPage = TypedDict("AccountPage", {"data": list[AccountBody], "next": str | None})  # noqa: UP013 - the API calls the field `data`


class AccountsQuery(ListQuery):
    """By id."""

    asset: AssetName | None = None
    owner: OwnerName | None = None
    status: Literal["open", "frozen", "closed"] | None = None
    id_prefix: str | None = None


class AccountNew(Body):
    """Without an id one is made. `owner` and `overdraft_limit` need `admin`."""

    id: NewAccountName | None = None
    asset: AssetName
    owner: OwnerName | None = None
    overdraft_limit: AmountText | None = None
    metadata: Metadata | None = None


class AccountChange(Body):
    """What is given is changed. `metadata` is a merge patch (RFC 7396): null deletes a key, or all of it."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    overdraft_limit: AmountText | SkipJsonSchema[None] = None
    status: Literal["open", "frozen"] | SkipJsonSchema[None] = None
    metadata: Metadata | None = None

    @field_validator("overdraft_limit", "status", mode="before")
    @classmethod
    def _is_given(cls, given: object) -> object:
        if given is None:
            raise ValueError("leave it out to keep it as it is")
        return given


@ROUTES.add("POST", "/v1/accounts", scopes=(Scope.WRITE,), body=AccountNew, answers={201: AccountBody})
async def create(context: RequestContext) -> HttpResponse:
    """Open an account."""
    body = await context.body(AccountNew)
    metadata = None if body.metadata is None else canonical_json(body.metadata)
    order = AccountOrder(body.asset, body.id, body.owner, body.overdraft_limit or "0", metadata)
    write = begin_write(context, order.id, order.asset, order.owner, canonical_amount(order.overdraft_limit), metadata)
    return await _answer(context.state, await open_account(write, order), 201)


@ROUTES.add("PATCH", "/v1/accounts/{id}", scopes=(Scope.ADMIN,), body=AccountChange, answers={200: AccountBody})
async def change(context: RequestContext) -> HttpResponse:
    """Change limit, status or metadata."""
    body = await context.body(AccountChange)
    is_cleared = body.metadata is None and "metadata" in body.model_fields_set
    if body.overdraft_limit is None and body.status is None and body.metadata is None and not is_cleared:
        raise Problem(RequestFault.INVALID_REQUEST, "nothing is to be changed")
    metadata = NO_METADATA if is_cleared else None if body.metadata is None else canonical_json(body.metadata)
    limit = None if body.overdraft_limit is None else canonical_amount(body.overdraft_limit)
    write = begin_write(context, context.path["id"], limit, body.status, metadata)
    submission = await change_account(write, context.path["id"], AccountChangeOrder(limit, body.status, metadata))
    return await _answer(context.state, submission, 200)


@ROUTES.add("DELETE", "/v1/accounts/{id}", scopes=(Scope.WRITE,), answers={204: None})
async def close(context: RequestContext) -> HttpResponse:
    """Close an account for good. Its history stays."""
    account = context.path["id"]
    return await answer_write(await close_account(begin_write(context, account), account), 204)


@ROUTES.add("GET", "/v1/accounts/{id}", scopes=(Scope.READ,), answers={200: AccountBody})
async def show(context: RequestContext) -> HttpResponse:
    """One account."""
    account = await visible_account(context.state, context.caller, context.path["id"])
    return json_response(200, await _body(context.state, account))


@ROUTES.add("GET", "/v1/accounts", scopes=(Scope.READ,), query=AccountsQuery, answers={200: AccountPage})
async def show_all(context: RequestContext) -> HttpResponse:
    """Accounts, by id."""
    query = context.query(AccountsQuery)
    position = context.state.instants.position  # before the rows are read: what comes after it may still be missing
    [after] = position_of(context, query, [""])
    wanted = AccountFilter(str(after), query.owner, query.asset, query.status, query.id_prefix)
    found = await visible_accounts(context.state, context.caller, wanted, query.limit + 1)
    rows, following = page(context, query, found, lambda row: [row.id])
    return list_response([await _body(context.state, row) for row in rows], following, position)


async def _answer(state: AppState, submission: Submission, status: int) -> HttpResponse:
    async def show_account() -> AccountBody:
        return await _body(state, await account_after(state, submission))

    return await answer_write(submission, status, show_account)


async def _body(state: AppState, account: AccountState) -> AccountBody:
    """The account as clients see it."""
    scale = await state.assets.scale(account.asset)
    path = f"/v1/accounts/{account.id}"
    return {
        "id": account.id,
        "asset": account.asset,
        "owner": account.owner,
        "status": account.status,
        "balance": format_amount(account.balance, scale),
        "held": format_amount(account.held, scale),
        "available": format_amount(account.balance - account.held + account.overdraft_limit, scale),
        "overdraft_limit": format_amount(account.overdraft_limit, scale),
        "version": account.version,
        "created_at": instant_text(account.created_at_us),
        "metadata": None if account.metadata is None else json.loads(account.metadata),
        "links": {
            "self": path,
            "entries": f"{path}/entries",
            "balance": f"{path}/balance",
            "transactions": f"/v1/transactions?account={account.id}",
        },
    }
