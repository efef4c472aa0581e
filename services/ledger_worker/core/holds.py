"""Decides the commands that place, capture and void holds. A capture always takes the whole amount."""

from typing import Final

from services.ledger_worker.core.accounts import Account, Hold, Status
from services.ledger_worker.core.outcomes import CommandContext, Decision, Rejected
from services.ledger_worker.core.state import PartitionState
from services.ledger_worker.core.transfers import (
    credit,
    credit_target,
    postings_text,
    reject_closed,
    reject_debit,
    reject_over_limit,
)
from shared.domain.rejections import Rejection
from shared.messages import HoldCapture, HoldPlace, HoldVoid

MICROSECONDS_PER_S: Final = 1_000_000


def place_hold(partition: PartitionState, command: HoldPlace, context: CommandContext) -> Decision | Rejected:
    """Sets funds aside: the available funds fall, the balance does not change."""
    if command.asset not in partition.ledger.assets:
        return Rejected(Rejection.UNKNOWN_ASSET)
    if command.hold in partition.holds:
        return Rejected(Rejection.ALREADY_EXISTS)
    if command.account == command.destination:
        return Rejected(Rejection.SAME_ACCOUNT)
    account = partition.visible_account(command.account, command)
    if account is None:
        return Rejected(Rejection.ACCOUNT_NOT_FOUND)
    target = None if command.destination is None else credit_target(partition, command.destination)
    if command.destination is not None and target is None:
        return Rejected(Rejection.ACCOUNT_NOT_FOUND)
    if account.asset != command.asset or (target is not None and target.asset != command.asset):
        return Rejected(Rejection.ASSET_MISMATCH)
    rejected = reject_debit(account, command.amount)
    if rejected is not None:
        return rejected
    # From here on it must succeed.
    batch = partition.open_batch()
    hold = Hold(command.hold, account.id, account.asset, command.amount, command.destination, command.id)
    partition.holds[hold.id] = hold
    expires_at_us = None if command.expires_in_s is None else context.now_us + command.expires_in_s * MICROSECONDS_PER_S
    batch.add_hold(hold, expires_at_us)
    batch.enter(account, command.id, 0, command.amount)
    batch.add_posted(command, subject=command.hold, accounts=(account.id,))
    return Decision(command.id, command.fingerprint, balances={account.id: account.balance})


def capture_hold(partition: PartitionState, command: HoldCapture, context: CommandContext) -> Decision | Rejected:
    """Moves the whole held amount to its destination."""
    if command.account == command.destination:
        return Rejected(Rejection.SAME_ACCOUNT)
    target = credit_target(partition, command.destination)
    if target is None:
        return Rejected(Rejection.ACCOUNT_NOT_FOUND)
    found = _open_hold(partition, command)
    if isinstance(found, Rejected):
        return found
    hold, account = found
    if target.asset != hold.asset:
        return Rejected(Rejection.ASSET_MISMATCH)
    if (rejected := reject_closed(target)) is not None:
        return rejected
    if account.status is Status.FROZEN:
        return Rejected(Rejection.ACCOUNT_FROZEN)
    if (rejected := reject_over_limit(target, hold.amount)) is not None:
        return rejected
    # From here on it must succeed: the funds were set aside when the hold was placed.
    batch = partition.open_batch()
    batch.end_hold(hold, "captured", command.id)
    batch.enter(account, command.id, -hold.amount, -hold.amount)
    balances = credit(partition, command, account, target, hold.amount, context)
    postings = postings_text(account.id, target.id, hold.amount, hold.asset)
    batch.add_posted(
        command, postings=postings, subject=hold.id, accounts=(account.id, target.id), assets=(hold.asset,)
    )
    return Decision(command.id, command.fingerprint, balances=balances, legs=target.legs)


def void_hold(partition: PartitionState, command: HoldVoid, _: CommandContext) -> Decision | Rejected:
    """Releases the held amount to the account's available funds."""
    found = _open_hold(partition, command)
    if isinstance(found, Rejected):
        return found
    hold, account = found
    # From here on it must succeed.
    batch = partition.open_batch()
    batch.end_hold(hold, "voided", command.id)
    batch.enter(account, command.id, 0, -hold.amount)
    batch.add_posted(command, subject=hold.id, accounts=(account.id,))
    return Decision(command.id, command.fingerprint, balances={account.id: account.balance})


def _open_hold(partition: PartitionState, command: HoldCapture | HoldVoid) -> tuple[Hold, Account] | Rejected:
    account = partition.visible_account(command.account, command)
    if account is None:
        return Rejected(Rejection.ACCOUNT_NOT_FOUND)
    hold = partition.holds.get(command.hold)
    if hold is None or hold.ended is not None or hold.account != account.id:
        return Rejected(Rejection.HOLD_NOT_OPEN)
    return hold, account
