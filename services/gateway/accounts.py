"""/v1/accounts."""

import json
from typing import Final, Literal

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from services.gateway.commands import identify, submit
from services.gateway.context import not_found
from services.gateway.fields import (
    AmountText,
    AssetName,
    Metadata,
    NewAccountName,
    OwnerName,
    fingerprint,
    metadata_text,
    minor_units_or_zero,
)
from services.gateway.pages import cursor_after, position_of
from services.gateway.problems import Fault, Refusal
from services.gateway.routes import Call, Route
from services.gateway.store.accounts import AccountState, list_accounts, read_account, read_account_after
from services.gateway.transfers import refuse_system_names
from services.gateway.web.answers import Answer, instant_text
from services.gateway.web.bodies import Body
from services.gateway.web.queries import ListQuery
from shared.api_keys import Scope
from shared.ids import PARTITIONED_PREFIXES, AccountId, derived_id, partition_of
from shared.messages import AccountClose, AccountCreate, AccountUpdate
from shared.money import format_amount


class AccountNew(Body):
    """Without an id one is made. `owner` and `overdraft_limit` need `admin`."""

    id: NewAccountName | None = None
    asset: AssetName
    owner: OwnerName | None = None
    overdraft_limit: AmountText | None = None
    metadata: Metadata | None = None


class AccountChange(Body):
    """What is given is changed; metadata is replaced whole."""

    overdraft_limit: AmountText | None = None
    status: Literal["open", "frozen"] | None = None
    metadata: Metadata | None = None


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


async def create(call: Call) -> Answer:
    """Opens an account."""
    body, caller = await call.body(AccountNew), call.caller
    limit = minor_units_or_zero(
        "overdraft_limit", body.overdraft_limit or "0", await call.gateway.assets.scale(body.asset)
    )
    if body.id is not None:
        refuse_system_names(caller, body.id)
        if body.id.startswith(PARTITIONED_PREFIXES):
            raise Refusal(Fault.FORBIDDEN, "accounts with this prefix are made by the ledger itself")
    if not caller.admin and (limit or body.owner not in {None, caller.principal}):
        raise Refusal(Fault.FORBIDDEN, "another owner, or an overdraft limit, needs the scope `admin`")
    identity, metadata = identify(call), metadata_text(body.metadata)
    account = body.id or AccountId(f"acc_{derived_id(identity.id, 'account').replace('-', '')}")
    command = AccountCreate(
        id=identity.id,
        repeat=identity.repeat,
        principal=caller.principal,
        admin=caller.admin,
        fingerprint=fingerprint("POST /v1/accounts", body.id, body.asset, body.owner, str(limit), metadata),
        account=account,
        asset=body.asset,
        owner=body.owner or caller.principal,
        overdraft_limit=limit,
        metadata=metadata,
    )
    return await _change(call, command, 201)


async def change(call: Call) -> Answer:
    """Changes limit, status or metadata."""
    account = await readable_account(call)
    body = await call.body(AccountChange)
    if body.overdraft_limit is None and body.status is None and body.metadata is None:
        raise Refusal(Fault.INVALID_REQUEST, "nothing is to be changed")
    scale = await call.gateway.assets.scale(account.asset)
    limit = None
    if body.overdraft_limit is not None:
        limit = minor_units_or_zero("overdraft_limit", body.overdraft_limit, scale)
    identity, metadata = identify(call), metadata_text(body.metadata)
    content = fingerprint(
        "PATCH /v1/accounts/{id}",
        account.id,
        None if limit is None else str(limit),
        body.status,
        metadata,
    )
    command = AccountUpdate(
        id=identity.id,
        repeat=identity.repeat,
        principal=call.caller.principal,
        admin=call.caller.admin,
        fingerprint=content,
        account=AccountId(account.id),
        overdraft_limit=limit,
        status=body.status,
        metadata=metadata,
    )
    return await _change(call, command, 200, scale=scale)


async def close(call: Call) -> Answer:
    """Closes an account for good; its history stays."""
    account = await readable_account(call)
    identity = identify(call)
    command = AccountClose(
        id=identity.id,
        repeat=identity.repeat,
        principal=call.caller.principal,
        admin=call.caller.admin,
        fingerprint=fingerprint("DELETE /v1/accounts/{id}", account.id),
        account=AccountId(account.id),
    )
    posted = await submit(call, command, partition_of(command.account, call.gateway.partitions))
    return posted if isinstance(posted, Answer) else posted.answer(204)


async def show(call: Call) -> Answer:
    """One account as it is."""
    return Answer(200, ACCOUNT.dump_json(await _shown(call, await readable_account(call))))


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
    return Answer(200, PAGE.dump_json({"data": [await _shown(call, each) for each in page], "next": following}))


async def readable_account(call: Call) -> AccountState:
    """The account that the path names. Raises Refusal `not_found` when there is none that the caller may read."""
    account = await read_account(call.gateway.database, call.path["id"]) if "\0" not in call.path["id"] else None
    if account is None or not (call.caller.admin or account.owner == call.caller.principal):
        raise not_found("account")
    return account


async def _change(call: Call, command: AccountCreate | AccountUpdate, status: int, *, scale: int = 0) -> Answer:
    """The answer shows the account as this very command left it, so that a replay shows the same."""
    posted = await submit(call, command, partition_of(command.account, call.gateway.partitions), scale=scale)
    if isinstance(posted, Answer):
        return posted
    account = await read_account_after(call.gateway.database, command.id)
    if account is None:
        raise not_found("account")
    return posted.answer(status, ACCOUNT.dump_json(await _shown(call, account)))


async def _shown(call: Call, account: AccountState) -> AccountBody:
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
        method="POST",
        path="/v1/accounts",
        handler=create,
        scope=Scope.WRITE,
        body=AccountNew,
        answers={201: AccountBody},
        summary="Open an account",
        writes=True,
    ),
    Route(
        method="GET",
        path="/v1/accounts/{id}",
        handler=show,
        scope=Scope.READ,
        answers={200: AccountBody},
        summary="One account",
    ),
    Route(
        method="PATCH",
        path="/v1/accounts/{id}",
        handler=change,
        scope=Scope.ADMIN,
        body=AccountChange,
        answers={200: AccountBody},
        summary="Change limit, status or metadata",
        writes=True,
    ),
    Route(
        method="DELETE",
        path="/v1/accounts/{id}",
        handler=close,
        scope=Scope.WRITE,
        answers={204: None},
        summary="Close an account for good",
        writes=True,
    ),
)
