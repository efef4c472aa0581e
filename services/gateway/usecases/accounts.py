"""Accounts: opened, changed, closed and read."""

from dataclasses import replace
from typing import Literal

from services.gateway.store.accounts import (
    AccountFilter,
    AccountState,
    list_accounts,
    read_account,
    read_account_after,
)
from services.gateway.usecases.caller import Caller
from services.gateway.usecases.faults import NotAllowed, NotFound
from services.gateway.usecases.refuse import refuse, refuse_amount
from services.gateway.usecases.state import AppState, UnknownAsset
from services.gateway.usecases.submit import RejectedOutcome, Submission, Write, canonical_amount, submit
from services.gateway.usecases.transactions import check_names
from shared.domain.ids import PARTITIONED_PREFIXES, AccountId, AssetCode, Principal, derived_id, partition_of
from shared.domain.money import AmountError, parse_amount
from shared.domain.rejections import Rejection
from shared.domain.values import value
from shared.messages import AccountClose, AccountCreate, AccountUpdate


@value
class AccountOrder:
    """An account to be opened. `overdraft_limit` is in units of the asset, as text; `metadata` is JSON text."""

    asset: AssetCode
    id: AccountId | None = None
    owner: Principal | None = None
    overdraft_limit: str = "0"
    metadata: str | None = None


@value
class AccountChangeOrder:
    """A change of an account; None leaves a field as it is. Units are those of AccountOrder.

    `metadata_patch` is a merge patch (RFC 7396) as JSON text.
    """

    overdraft_limit: str | None = None
    status: Literal["open", "frozen"] | None = None
    metadata_patch: str | None = None


async def open_account(write: Write, order: AccountOrder) -> Submission:
    """Opens an account. Raises NotAllowed, InvalidField, CommandNotSent, TooManyCommands, DatabaseUnavailable."""
    state, caller = write.state, write.caller
    if order.id is not None:
        check_names(caller, order.id)
        if order.id.startswith(PARTITIONED_PREFIXES):
            raise NotAllowed("accounts with this prefix are made by the ledger itself")
    if not caller.admin and (
        canonical_amount(order.overdraft_limit) != "0" or order.owner not in {None, caller.principal}
    ):
        raise NotAllowed("another owner, or an overdraft limit, needs the scope `admin`")
    try:
        scale = await state.assets.scale(order.asset)
        limit = limit_units(order.overdraft_limit, scale)
    except (UnknownAsset, AmountError) as fault:
        return await refuse_amount(write, "account.create.v1", fault, "overdraft_limit")
    command = AccountCreate(
        **write.header(),
        # Derived from the command's id, so that a repeat at any gateway gives the account the same id.
        account=order.id or AccountId(f"acc_{derived_id(write.id, 'account').replace('-', '')}"),
        asset=order.asset,
        owner=order.owner or caller.principal,
        overdraft_limit=limit,
        metadata=order.metadata,
    )
    return await submit(write, command, partition_of(command.account, state.ledger.partitions), scale=scale)


async def change_account(write: Write, account: str, change: AccountChangeOrder) -> Submission:
    """Changes limit, status or metadata.

    Raises NotAllowed, InvalidField, CommandNotSent, TooManyCommands, DatabaseUnavailable.
    """
    state = write.state
    try:
        head = await visible_account(state, write.caller, account)
        if change.status == "frozen":
            _refuse_system_account(head.id)
        scale = await state.assets.scale(head.asset)
        limit = None if change.overdraft_limit is None else limit_units(change.overdraft_limit, scale)
    except NotFound:
        return await refuse(write, "account.update.v1", RejectedOutcome(Rejection.ACCOUNT_NOT_FOUND))
    except AmountError as fault:
        return await refuse_amount(write, "account.update.v1", fault, "overdraft_limit")
    command = AccountUpdate(
        **write.header(),
        account=AccountId(head.id),
        overdraft_limit=limit,
        status=change.status,
        metadata_patch=change.metadata_patch,
    )
    return await submit(write, command, partition_of(command.account, state.ledger.partitions), scale=scale)


async def close_account(write: Write, account: str) -> Submission:
    """Closes an account for good. Raises NotAllowed, CommandNotSent, TooManyCommands or DatabaseUnavailable."""
    try:
        head = await visible_account(write.state, write.caller, account)
    except NotFound:
        return await refuse(write, "account.close.v1", RejectedOutcome(Rejection.ACCOUNT_NOT_FOUND))
    _refuse_system_account(head.id)
    command = AccountClose(**write.header(), account=AccountId(head.id))
    return await submit(write, command, partition_of(command.account, write.state.ledger.partitions))


def _refuse_system_account(account: str) -> None:
    """Raises NotAllowed for an account of the ledger itself: a frozen `world` would end all deposits of its asset."""
    if account.startswith(PARTITIONED_PREFIXES):
        raise NotAllowed(f"{account} belongs to the ledger itself, and is neither frozen nor closed")


async def account_after(state: AppState, submission: Submission) -> AccountState:
    """The account right after this command, so that a repeat shows the same. Raises NotFound, DatabaseUnavailable."""
    opened = _just_opened(state, submission)
    if opened is not None:
        return opened
    found = await read_account_after(state.database, submission.command.id)
    if found is None:
        raise NotFound("account")
    return found


def _just_opened(state: AppState, submission: Submission) -> AccountState | None:
    """The account that this command has just opened, as command and reply describe it; None if they do not."""
    command, outcome = submission.command, submission.outcome
    if not isinstance(command, AccountCreate) or outcome is None or submission.is_replayed:
        return None
    return AccountState(
        id=command.account,
        asset=command.asset,
        owner=command.owner,
        partition=partition_of(command.account, state.ledger.partitions),
        status="open",
        metadata=command.metadata,
        created_at_us=outcome.recorded_at_us,
        version=1 if command.overdraft_limit else 0,  # a limit is recorded by a first entry
        balance=0,
        held=0,
        overdraft_limit=command.overdraft_limit,
    )


async def visible_account(state: AppState, caller: Caller, account: str) -> AccountState:
    """The account as it is, if the caller may see it. Raises NotFound or DatabaseUnavailable."""
    found = await read_account(state.database, account)
    if found is None or not caller.may_see(found.owner):
        raise NotFound("account")
    return found


async def visible_accounts(state: AppState, caller: Caller, wanted: AccountFilter, limit: int) -> list[AccountState]:
    """Accounts that the caller may see, by id. Raises DatabaseUnavailable."""
    owner = caller.sees_only or wanted.owner
    if wanted.owner not in {None, owner}:
        return []
    return await list_accounts(state.database, replace(wanted, owner=owner), limit)


def limit_units(text: str, scale: int) -> int:
    """Minor units of an overdraft limit, which, unlike an amount, may be zero. Raises AmountError."""
    return 0 if not text.strip("0.") else parse_amount(text, scale)
