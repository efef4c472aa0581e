"""Decides the commands that open, change and close accounts, and that add assets."""

import json

from services.ledger_worker.core.accounts import Account, Status
from services.ledger_worker.core.metadata import KnownMetadata, merged
from services.ledger_worker.core.outcomes import CommandContext, Decision, Rejected
from services.ledger_worker.core.state import PartitionState
from services.ledger_worker.core.transfers import available
from shared.domain.metadata import METADATA_CHARACTERS_MAX
from shared.domain.rejections import Rejection
from shared.messages import AccountClose, AccountCreate, AccountUpdate, AssetCreate


def create_account(partition: PartitionState, command: AccountCreate, _: CommandContext) -> Decision | Rejected:
    """Opens an account. An overdraft limit other than zero is recorded by a first entry with delta 0."""
    if command.asset not in partition.ledger.assets:
        return Rejected(Rejection.UNKNOWN_ASSET)
    if partition.account(command.account) is not None:
        return Rejected(Rejection.ALREADY_EXISTS)
    # From here on it must succeed.
    batch = partition.open_batch()
    account = Account(command.account, command.asset, command.owner, limit=command.overdraft_limit)
    partition.accounts[account.id] = account
    partition.metadata[account.id] = KnownMetadata(command.metadata, batch.batch)
    batch.add_account(account, command.metadata)
    if command.overdraft_limit:
        batch.enter(account, command.id, 0)
    batch.add_posted(command, subject=command.account, accounts=(command.account,))
    return Decision(command.id, command.fingerprint)


def update_account(partition: PartitionState, command: AccountUpdate, _: CommandContext) -> Decision | Rejected:
    """Changes limit, status or metadata, with an entry of delta 0 that records when in the account's history."""
    account = partition.visible_account(command.account, command)
    if account is None:
        return Rejected(Rejection.ACCOUNT_NOT_FOUND)
    if account.status is Status.CLOSED:
        return Rejected(Rejection.ACCOUNT_CLOSED)
    # A lower limit reduces the available funds, and like a debit it must not take them below zero.
    if command.overdraft_limit is not None and command.overdraft_limit < account.limit:
        lowered_by = account.limit - command.overdraft_limit
        if available(account) < lowered_by:
            return Rejected(Rejection.INSUFFICIENT_FUNDS, available(account), lowered_by)
    metadata = command.metadata
    if command.metadata_patch is not None:
        metadata = merged(partition.metadata[account.id].text, command.metadata_patch)
        if len(metadata) > METADATA_CHARACTERS_MAX:
            return Rejected(Rejection.LIMIT_EXCEEDED)
    # From here on it must succeed.
    batch = partition.open_batch()
    account.limit = account.limit if command.overdraft_limit is None else command.overdraft_limit
    account.status = account.status if command.status is None else Status(command.status)
    batch.enter(account, command.id, 0)
    if metadata is not None:
        partition.metadata[account.id] = KnownMetadata(metadata, batch.batch)
    batch.change_account(account, metadata)
    batch.add_posted(command, subject=command.account, metadata=metadata, accounts=(command.account,))
    return Decision(command.id, command.fingerprint)


def close_account(partition: PartitionState, command: AccountClose, _: CommandContext) -> Decision | Rejected:
    """Closes an account for good. Refused unless its balance and its holds are zero."""
    account = partition.visible_account(command.account, command)
    if account is None:
        return Rejected(Rejection.ACCOUNT_NOT_FOUND)
    if account.status is Status.CLOSED:
        return Rejected(Rejection.ACCOUNT_CLOSED)
    if account.balance != 0 or account.held != 0 or account.is_system:
        return Rejected(Rejection.ACCOUNT_NOT_EMPTY)
    # From here on it must succeed.
    batch = partition.open_batch()
    account.status = Status.CLOSED
    batch.enter(account, command.id, 0)
    batch.change_account(account, None)
    batch.add_posted(command, subject=command.account, accounts=(command.account,))
    return Decision(command.id, command.fingerprint)


def create_asset(partition: PartitionState, command: AssetCreate, _: CommandContext) -> Decision | Rejected:
    """Adds an asset to the ledger."""
    if command.asset in partition.ledger.assets:
        return Rejected(Rejection.ALREADY_EXISTS)
    # From here on it must succeed.
    partition.ledger.assets[command.asset] = command.scale
    batch = partition.open_batch()
    batch.add_asset(command.asset, command.scale, command.name, command.id)
    metadata = json.dumps({"scale": command.scale, "name": command.name}, separators=(",", ":"))
    batch.add_posted(command, subject=command.asset, metadata=metadata)
    return Decision(command.id, command.fingerprint)
