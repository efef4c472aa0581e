"""Accounts and assets come into being; limits and status change; accounts close."""

import json

from services.ledger_worker.core.accounts import Account, Status
from services.ledger_worker.core.decision import Asking, Decision, Refusal, operation_row
from services.ledger_worker.core.line import Line
from shared.messages import AccountClose, AccountCreate, AccountUpdate, AssetCreate
from shared.rejections import Rejection


def create_account(line: Line, command: AccountCreate, _: Asking) -> Decision | Refusal:
    """Opens an account; a limit is its first entry."""
    if command.asset not in line.world.assets:
        return Refusal(Rejection.UNKNOWN_ASSET)
    if line.account(command.account) is not None:
        return Refusal(Rejection.ALREADY_EXISTS)
    # From here on it must succeed.
    draft = line.open_draft()
    account = Account(command.account, command.asset, command.owner, limit=command.overdraft_limit)
    line.accounts[account.id] = account
    draft.open_account(account, command.metadata)
    if command.overdraft_limit:
        draft.enter(account, command.id, 0)
    draft.operate(operation_row(command, subject=command.account, accounts=(command.account,)))
    return Decision(command.id, command.fingerprint)


def update_account(line: Line, command: AccountUpdate, _: Asking) -> Decision | Refusal:
    """Changes limit, status or metadata: an entry with delta 0."""
    account = line.account(command.account)
    if account is None or not account.readable_by(command.principal, admin=command.admin):
        return Refusal(Rejection.ACCOUNT_NOT_FOUND)
    if account.status is Status.CLOSED:
        return Refusal(Rejection.ACCOUNT_CLOSED)
    # A lower limit lowers what is available, and what lowers it leaves it at zero or more.
    if command.overdraft_limit is not None and command.overdraft_limit < account.limit:
        lowered_by = account.limit - command.overdraft_limit
        if account.available < lowered_by:
            return Refusal(Rejection.INSUFFICIENT_FUNDS, account.available, lowered_by)
    # From here on it must succeed.
    draft = line.open_draft()
    account.limit = account.limit if command.overdraft_limit is None else command.overdraft_limit
    account.status = account.status if command.status is None else Status(command.status)
    draft.enter(account, command.id, 0)
    _change(line, account, command.metadata)
    draft.operate(operation_row(command, subject=command.account, accounts=(command.account,)))
    return Decision(command.id, command.fingerprint)


def close_account(line: Line, command: AccountClose, _: Asking) -> Decision | Refusal:
    """Closes an account that holds nothing."""
    account = line.account(command.account)
    if account is None or not account.readable_by(command.principal, admin=command.admin):
        return Refusal(Rejection.ACCOUNT_NOT_FOUND)
    if account.status is Status.CLOSED:
        return Refusal(Rejection.ACCOUNT_CLOSED)
    if account.balance != 0 or account.held != 0 or account.is_system:
        return Refusal(Rejection.ACCOUNT_NOT_EMPTY)
    # From here on it must succeed.
    draft = line.open_draft()
    account.status = Status.CLOSED
    line.world.learn(account)
    draft.enter(account, command.id, 0)
    _change(line, account, None)
    draft.operate(operation_row(command, subject=command.account, accounts=(command.account,)))
    return Decision(command.id, command.fingerprint)


def create_asset(line: Line, command: AssetCreate, _: Asking) -> Decision | Refusal:
    """Makes an asset known."""
    if command.asset in line.world.assets:
        return Refusal(Rejection.ALREADY_EXISTS)
    # From here on it must succeed.
    line.world.assets[command.asset] = command.scale
    draft = line.open_draft()
    draft.open_asset(command.asset, command.scale, command.name, command.id)
    metadata = json.dumps({"scale": command.scale, "name": command.name}, separators=(",", ":"))
    draft.operate(operation_row(command, subject=command.asset, metadata=metadata))
    return Decision(command.id, command.fingerprint)


def _change(line: Line, account: Account, metadata: str | None) -> None:
    changes = line.open_draft().account_changes
    _, earlier = changes.get(account.id, (account.status, None))
    changes[account.id] = (account.status, earlier if metadata is None else metadata)
