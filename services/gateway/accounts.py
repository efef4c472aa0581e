"""/v1/accounts."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, Literal

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from services.gateway.fields import (
    AssetName,
    OwnerName,
)
from services.gateway.pages import cursor_after, position_of
from services.gateway.problems import Fault, Refusal
from services.gateway.routes import Call, Route
from services.gateway.store.accounts import AccountState, list_accounts, read_account
from services.gateway.web.answers import Answer, instant_text
from services.gateway.web.queries import ListQuery
from shared.api_keys import Scope
from shared.money import format_amount
from shared.rejections import Rejection


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
ACCOUNT: TypeAdapter[AccountBody] = TypeAdapter(AccountBody)
PAGE: TypeAdapter[AccountPage] = TypeAdapter(AccountPage)


class AccountsQuery(ListQuery):
    """By id."""

    asset: AssetName | None = None
    owner: OwnerName | None = None
    status: Literal["open", "frozen", "closed"] | None = None
    id_prefix: str | None = None


async def show(call: Call) -> Answer:
    """One account as it is."""
    return Answer(200, ACCOUNT.dump_json(await shown(call, await readable_account(call))))


async def show_all(call: Call) -> Answer:
    """Accounts by id."""
    query = call.query(AccountsQuery)
    position = position_of(call, query)
    owner = query.owner if call.caller.admin else call.caller.principal
    found: list[AccountState] = []
    if query.owner in {None, owner}:
        found = await list_accounts(
            call.gateway.database,
            after=str(position[0]) if position else "",
            owner=owner,
            asset=query.asset,
            status=query.status,
            id_prefix=query.id_prefix,
            limit=query.limit + 1,
        )
    page = found[: query.limit]
    following = cursor_after(call, query, [page[-1].id]) if len(found) > len(page) else None
    return Answer(200, PAGE.dump_json({"data": [await shown(call, each) for each in page], "next": following}))


async def readable_account(call: Call) -> AccountState:
    """The account that the path names. Raises Refusal `not_found` when there is none that the caller may read."""
    with named_by_path():
        return await named_account(call)


async def named_account(call: Call) -> AccountState:
    """The same for a command: raises Refusal `account_not_found`, an outcome."""
    account = await read_account(call.gateway.database, call.path["id"]) if "\0" not in call.path["id"] else None
    if account is None or not (call.caller.admin or account.owner == call.caller.principal):
        raise Refusal(Rejection.ACCOUNT_NOT_FOUND)
    return account


@contextmanager
def named_by_path() -> Generator[None]:
    """An account that the path names, and not a field of a command, answers 404 when there is none."""
    try:
        yield
    except Refusal as refusal:
        if refusal.code is Rejection.ACCOUNT_NOT_FOUND:
            refusal.code = Fault.NOT_FOUND
        raise


async def shown(call: Call, account: AccountState) -> AccountBody:
    """The account as clients see it."""
    scale = await call.gateway.assets.scale(account.asset)
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


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/accounts",
        handler=show_all,
        scope=Scope.READ,
        query=AccountsQuery,
        answers={200: AccountPage},
        summary="Accounts, by id",
    ),
    Route(
        method="GET",
        path="/v1/accounts/{id}",
        handler=show,
        scope=Scope.READ,
        answers={200: AccountBody},
        summary="One account",
    ),
)
