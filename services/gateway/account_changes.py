"""Writes on /v1/accounts: open, change, close."""

from typing import Final, Literal

from services.gateway.accounts import ACCOUNT, AccountBody, named_account, named_by_path, shown
from services.gateway.commands import identify, refuse, submit
from services.gateway.context import not_found
from services.gateway.fields import (
    AmountText,
    AssetName,
    Metadata,
    NewAccountName,
    OwnerName,
    canonical_amount,
    fingerprint,
    metadata_text,
    minor_units_or_zero,
)
from services.gateway.problems import Fault, Refusal
from services.gateway.routes import Call, Route
from services.gateway.store.accounts import read_account_after
from services.gateway.transfers import refuse_system_names
from services.gateway.web.answers import Answer
from services.gateway.web.bodies import Body
from shared.api_keys import Scope
from shared.ids import PARTITIONED_PREFIXES, AccountId, derived_id, partition_of
from shared.messages import AccountClose, AccountCreate, AccountUpdate

# An account's metadata, as the journal keeps it, once it was taken away.
CLEARED: Final = "null"


class AccountNew(Body):
    """Without an id one is made. `owner` and `overdraft_limit` need `admin`."""

    id: NewAccountName | None = None
    asset: AssetName
    owner: OwnerName | None = None
    overdraft_limit: AmountText | None = None
    metadata: Metadata | None = None


class AccountChange(Body):
    """What is given is changed; metadata is replaced whole, by null with none."""

    overdraft_limit: AmountText | None = None
    status: Literal["open", "frozen"] | None = None
    metadata: Metadata | None = None


async def create(call: Call) -> Answer:
    """Opens an account."""
    body, caller = await call.body(AccountNew), call.caller
    limit_text = canonical_amount(body.overdraft_limit or "0")
    if body.id is not None:
        refuse_system_names(caller, body.id)
        if body.id.startswith(PARTITIONED_PREFIXES):
            raise Refusal(Fault.FORBIDDEN, "accounts with this prefix are made by the ledger itself")
    if not caller.admin and (limit_text != "0" or body.owner not in {None, caller.principal}):
        raise Refusal(Fault.FORBIDDEN, "another owner, or an overdraft limit, needs the scope `admin`")
    identity, metadata = identify(call), metadata_text(body.metadata)
    content = fingerprint("POST /v1/accounts", body.id, body.asset, body.owner, limit_text, metadata)
    try:
        scale = await call.gateway.assets.scale(body.asset)
        limit = minor_units_or_zero("overdraft_limit", body.overdraft_limit or "0", scale)
    except Refusal as refusal:
        return await refuse(call, identity, "account.create.v1", content, refusal)
    account = body.id or AccountId(f"acc_{derived_id(identity.id, 'account').replace('-', '')}")
    command = AccountCreate(
        id=identity.id,
        repeat=identity.repeat,
        principal=caller.principal,
        admin=caller.admin,
        fingerprint=content,
        account=account,
        asset=body.asset,
        owner=body.owner or caller.principal,
        overdraft_limit=limit,
        metadata=metadata,
    )
    return await _change(call, command, 201)


async def change(call: Call) -> Answer:
    """Changes limit, status or metadata."""
    with named_by_path():
        return await _changed(call)


async def _changed(call: Call) -> Answer:
    body, identity = await call.body(AccountChange), identify(call)
    is_cleared = body.metadata is None and "metadata" in body.model_fields_set
    if body.overdraft_limit is None and body.status is None and body.metadata is None and not is_cleared:
        raise Refusal(Fault.INVALID_REQUEST, "nothing is to be changed")
    metadata = CLEARED if is_cleared else metadata_text(body.metadata)
    limit_text = None if body.overdraft_limit is None else canonical_amount(body.overdraft_limit)
    content = fingerprint("PATCH /v1/accounts/{id}", call.path["id"], limit_text, body.status, metadata)
    try:
        account = await named_account(call)
        scale = await call.gateway.assets.scale(account.asset)
        limit = None if limit_text is None else minor_units_or_zero("overdraft_limit", limit_text, scale)
    except Refusal as refusal:
        return await refuse(call, identity, "account.update.v1", content, refusal)
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
    with named_by_path():
        return await _closed(call)


async def _closed(call: Call) -> Answer:
    identity, content = identify(call), fingerprint("DELETE /v1/accounts/{id}", call.path["id"])
    try:
        account = await named_account(call)
    except Refusal as refusal:
        return await refuse(call, identity, "account.close.v1", content, refusal)
    command = AccountClose(
        id=identity.id,
        repeat=identity.repeat,
        principal=call.caller.principal,
        admin=call.caller.admin,
        fingerprint=content,
        account=AccountId(account.id),
    )
    posted = await submit(call, command, partition_of(command.account, call.gateway.partitions))
    return posted if isinstance(posted, Answer) else posted.answer(204)


async def _change(call: Call, command: AccountCreate | AccountUpdate, status: int, *, scale: int = 0) -> Answer:
    """The answer shows the account as this very command left it, so that a replay shows the same."""
    posted = await submit(call, command, partition_of(command.account, call.gateway.partitions), scale=scale)
    if isinstance(posted, Answer):
        return posted
    account = await read_account_after(call.gateway.database, command.id)
    if account is None:
        raise not_found("account")
    return posted.answer(status, ACCOUNT.dump_json(await shown(call, account)))


ROUTES: Final = (
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
