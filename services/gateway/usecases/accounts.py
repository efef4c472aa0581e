"""Accounts: opened, changed, closed and read."""

from typing import Final, Literal

from services.gateway.store.accounts import AccountState, list_accounts, read_account, read_account_after
from services.gateway.usecases.caller import Caller
from services.gateway.usecases.faults import NotAllowed, NotFound
from services.gateway.usecases.refuse import refuse, refuse_amount
from services.gateway.usecases.state import AppState, UnknownAsset
from services.gateway.usecases.submit import (
    RejectedOutcome,
    Submission,
    canonical_amount,
    fingerprint,
    identify,
    submit,
)
from services.gateway.usecases.transactions import check_names
from shared.domain.ids import PARTITIONED_PREFIXES, AccountId, AssetCode, Principal, derived_id, partition_of
from shared.domain.money import AmountError, parse_amount
from shared.domain.rejections import Rejection
from shared.domain.values import value
from shared.messages import AccountClose, AccountCreate, AccountUpdate

# The metadata of an account, as the journal keeps it, after a client took it away.
NO_METADATA: Final = "null"


@value
class AccountOrder:
    """An account to be opened. `overdraft_limit` is in units of the asset, as text; `metadata` is JSON text."""

    asset: AssetCode
    id: AccountId | None = None
    owner: Principal | None = None
    overdraft_limit: str | None = None
    metadata: str | None = None


@value
class AccountChangeOrder:
    """What is to be changed of an account; None leaves it. As in AccountOrder."""

    overdraft_limit: str | None = None
    status: Literal["open", "frozen"] | None = None
    metadata: str | None = None


async def open_account(
    state: AppState, caller: Caller, key: str | None, order: AccountOrder, wait_s: float
) -> Submission:
    """Opens an account. Raises NotAllowed, InvalidField, CommandNotSent, TooManyCommands."""
    limit_text = canonical_amount(order.overdraft_limit or "0")
    if order.id is not None:
        check_names(caller, order.id)
        if order.id.startswith(PARTITIONED_PREFIXES):
            raise NotAllowed("accounts with this prefix are made by the ledger itself")
    if not caller.admin and (limit_text != "0" or order.owner not in {None, caller.principal}):
        raise NotAllowed("another owner, or an overdraft limit, needs the scope `admin`")
    identity = identify(state, caller, key)
    content = fingerprint("POST /v1/accounts", order.id, order.asset, order.owner, limit_text, order.metadata)
    try:
        scale = await state.assets.scale(order.asset)
        limit = limit_units(order.overdraft_limit or "0", scale)
    except (UnknownAsset, AmountError) as fault:
        return await refuse_amount(
            state, caller, identity, "account.create.v1", content, fault, "overdraft_limit", wait_s
        )
    command = AccountCreate(
        **identity.header(caller, content),
        # Derived from the command's id, so that a repeat at another gateway makes the same.
        account=order.id or AccountId(f"acc_{derived_id(identity.id, 'account').replace('-', '')}"),
        asset=order.asset,
        owner=order.owner or caller.principal,
        overdraft_limit=limit,
        metadata=order.metadata,
    )
    partition = partition_of(command.account, state.partitions)
    return await submit(state, command, partition, wait_s, is_repeat=identity.is_repeat, scale=scale)


async def change_account(
    state: AppState, caller: Caller, key: str | None, account: str, change: AccountChangeOrder, wait_s: float
) -> Submission:
    """Changes limit, status or metadata. Raises InvalidField, CommandNotSent, TooManyCommands."""
    identity = identify(state, caller, key)
    limit_text = None if change.overdraft_limit is None else canonical_amount(change.overdraft_limit)
    content = fingerprint("PATCH /v1/accounts/{id}", account, limit_text, change.status, change.metadata)
    try:
        head = await visible_account(state, caller, account)
        scale = await state.assets.scale(head.asset)
        limit = None if limit_text is None else limit_units(limit_text, scale)
    except NotFound:
        not_found = RejectedOutcome(Rejection.ACCOUNT_NOT_FOUND)
        return await refuse(state, caller, identity, "account.update.v1", content, not_found, wait_s)
    except AmountError as fault:
        return await refuse_amount(
            state, caller, identity, "account.update.v1", content, fault, "overdraft_limit", wait_s
        )
    command = AccountUpdate(
        **identity.header(caller, content),
        account=AccountId(head.id),
        overdraft_limit=limit,
        status=change.status,
        metadata=change.metadata,
    )
    partition = partition_of(command.account, state.partitions)
    return await submit(state, command, partition, wait_s, is_repeat=identity.is_repeat, scale=scale)


async def close_account(state: AppState, caller: Caller, key: str | None, account: str, wait_s: float) -> Submission:
    """Closes an account for good. Raises CommandNotSent or TooManyCommands."""
    identity, content = identify(state, caller, key), fingerprint("DELETE /v1/accounts/{id}", account)
    try:
        head = await visible_account(state, caller, account)
    except NotFound:
        not_found = RejectedOutcome(Rejection.ACCOUNT_NOT_FOUND)
        return await refuse(state, caller, identity, "account.close.v1", content, not_found, wait_s)
    command = AccountClose(
        **identity.header(caller, content),
        account=AccountId(head.id),
    )
    partition = partition_of(command.account, state.partitions)
    return await submit(state, command, partition, wait_s, is_repeat=identity.is_repeat)


async def account_after(state: AppState, submission: Submission) -> AccountState:
    """The account as this very command left it, so that a repeat shows the same. Raises DatabaseUnavailable."""
    found = await read_account_after(state.database, submission.command.id)
    if found is None:
        raise NotFound("account")
    return found


async def visible_account(state: AppState, caller: Caller, account: str) -> AccountState:
    """The account as it is, if the caller may see it. Raises NotFound or DatabaseUnavailable."""
    found = await read_account(state.database, account) if "\0" not in account else None
    if found is None or not caller.may_see(found.owner):
        raise NotFound("account")
    return found


async def visible_accounts(
    state: AppState,
    caller: Caller,
    *,
    after: str,
    owner: str | None,
    asset: str | None,
    status: str | None,
    id_prefix: str | None,
    limit: int,
) -> list[AccountState]:
    """Accounts that the caller may see, by id, from the one after `after`. None filters nothing."""
    wanted = owner if caller.admin else caller.principal
    if owner not in {None, wanted}:
        return []
    return await list_accounts(
        state.database, after=after, owner=wanted, asset=asset, status=status, id_prefix=id_prefix, limit=limit
    )


def limit_units(text: str, scale: int) -> int:
    """Minor units of an overdraft limit, which, unlike an amount, may be zero. Raises AmountError."""
    return 0 if not text.strip("0.") else parse_amount(text, scale)
