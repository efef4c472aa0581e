"""Holds: placed, captured whole or voided."""

from typing import Final

from services.ledger_worker.core.accounts import Account, Hold, Status
from services.ledger_worker.core.decision import Asking, Decision, Refusal, operation_row, posting_text
from services.ledger_worker.core.line import Line
from services.ledger_worker.core.moves import credit, landing_of, refuse_credit, refuse_debit
from shared.messages import HoldCapture, HoldPlace, HoldVoid
from shared.rejections import Rejection

MICROSECONDS: Final = 1_000_000


def place_hold(line: Line, command: HoldPlace, asking: Asking) -> Decision | Refusal:
    """Sets funds aside; the balance stays, what is available falls."""
    if command.asset not in line.world.assets:
        return Refusal(Rejection.UNKNOWN_ASSET)
    if command.hold in line.holds:
        return Refusal(Rejection.ALREADY_EXISTS)
    if command.account == command.destination:
        return Refusal(Rejection.SAME_ACCOUNT)
    account = line.account(command.account)
    if account is None or not account.readable_by(command.principal, admin=command.admin):
        return Refusal(Rejection.ACCOUNT_NOT_FOUND)
    landing = None if command.destination is None else landing_of(line, command.destination)
    if command.destination is not None and landing is None:
        return Refusal(Rejection.ACCOUNT_NOT_FOUND)
    if account.asset != command.asset or (landing is not None and landing.asset != command.asset):
        return Refusal(Rejection.ASSET_MISMATCH)
    refusal = refuse_debit(account, command.amount)
    if refusal is not None:
        return refusal
    # From here on it must succeed.
    draft = line.open_draft()
    hold = Hold(command.hold, account.id, account.asset, command.amount, command.destination, command.id)
    line.holds[hold.id] = hold
    expires_at_us = None if command.expires_in_s is None else asking.now_us + command.expires_in_s * MICROSECONDS
    draft.place_hold(hold, expires_at_us)
    draft.enter(account, command.id, 0, command.amount)
    draft.operate(operation_row(command, subject=command.hold, accounts=(account.id,)))
    return Decision(command.id, command.fingerprint, balances={account.id: account.balance})


def capture_hold(line: Line, command: HoldCapture, asking: Asking) -> Decision | Refusal:
    """Moves the whole held amount to its destination."""
    if command.account == command.destination:
        return Refusal(Rejection.SAME_ACCOUNT)
    found = _open_hold(line, command)
    if isinstance(found, Refusal):
        return found
    hold, account = found
    landing = landing_of(line, command.destination)
    if landing is None:
        return Refusal(Rejection.ACCOUNT_NOT_FOUND)
    if landing.asset != hold.asset:
        return Refusal(Rejection.ASSET_MISMATCH)
    if account.status is Status.FROZEN:
        return Refusal(Rejection.ACCOUNT_FROZEN)
    refusal = refuse_credit(landing, hold.amount)
    if refusal is not None:
        return refusal
    # From here on it must succeed: the funds were set aside when the hold was placed.
    draft = line.open_draft()
    draft.end_hold(hold, "captured", command.id)
    draft.enter(account, command.id, -hold.amount, -hold.amount)
    balances = credit(line, command, account, landing, hold.amount, asking)
    postings = posting_text(account.id, landing.id, hold.amount, hold.asset)
    draft.operate(operation_row(command, postings=postings, subject=hold.id, accounts=(account.id, landing.id)))
    return Decision(command.id, command.fingerprint, balances=balances, legs=landing.legs)


def void_hold(line: Line, command: HoldVoid, _: Asking) -> Decision | Refusal:
    """Gives the held amount back to what is available."""
    found = _open_hold(line, command)
    if isinstance(found, Refusal):
        return found
    hold, account = found
    # From here on it must succeed.
    draft = line.open_draft()
    draft.end_hold(hold, "voided", command.id)
    draft.enter(account, command.id, 0, -hold.amount)
    draft.operate(operation_row(command, subject=hold.id, accounts=(account.id,)))
    return Decision(command.id, command.fingerprint, balances={account.id: account.balance})


def _open_hold(line: Line, command: HoldCapture | HoldVoid) -> tuple[Hold, Account] | Refusal:
    account = line.account(command.account)
    if account is None or not account.readable_by(command.principal, admin=command.admin):
        return Refusal(Rejection.ACCOUNT_NOT_FOUND)
    hold = line.holds.get(command.hold)
    if hold is None or hold.ended is not None or hold.account != account.id:
        return Refusal(Rejection.HOLD_NOT_OPEN)
    return hold, account
