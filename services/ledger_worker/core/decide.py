"""Decides commands, one straight road for each kind: checks in the order of Rejection, then what must succeed.

A decision changes the line's accounts in memory and adds lines to its draft; nothing leaves before the draft is committed.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from services.ledger_worker.core.accounts import Account, Hold, Status
from services.ledger_worker.core.draft import CANCELLED_FINGERPRINT, OperationRow
from services.ledger_worker.core.line import InvariantBroken, Known, Line
from shared.ids import AccountId, AssetCode, Partition
from shared.messages import (
    AccountClose,
    AccountCreate,
    AccountUpdate,
    AssetCreate,
    Command,
    HoldCapture,
    HoldPlace,
    HoldVoid,
    Move,
    OperationCancel,
)
from shared.money import BALANCE_MINOR_MAX
from shared.rejections import Rejection
from shared.transit_rows import Credit

MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of one command. `code` None is posted; amounts in minor units; `legs` are credits on their way."""

    id: str
    fingerprint: str
    code: Rejection | None = None
    replayed: bool = False
    balances: Mapping[str, int] = field(default_factory=dict[str, int])
    legs: tuple[int, ...] = ()
    available: int | None = None
    required: int | None = None


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asked and when. `reply_to` hears of credits that land elsewhere."""

    reply_to: str | None
    now_us: int  # microseconds since 1970 UTC, for the end of holds


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not. The amounts come with insufficient funds."""

    code: Rejection
    available: int | None = None
    required: int | None = None

    def detail(self) -> str | None:
        """What the journal keeps beside the code, JSON text."""
        if self.available is None:
            return None
        return json.dumps({"available": str(self.available), "required": str(self.required)}, separators=(",", ":"))


def decide(line: Line, command: Command, asking: Asking) -> Decision:
    """Decides one command on top of everything decided before it. A repeat gets the first outcome and writes nothing."""
    known = line.world.recent.get(command.id)
    if known is not None:
        return repeated(command, known)
    result = _ROADS[type(command)](line, command, asking)
    if isinstance(result, Refusal):
        return refuse(line, command, result)
    line.world.recent[command.id] = Known(command.fingerprint, None)
    return result


def repeated(command: Command, known: Known) -> Decision:
    """The same content gets the first outcome again; other content is refused and leaves no trace."""
    same = known.fingerprint in {command.fingerprint, CANCELLED_FINGERPRINT} or isinstance(command, OperationCancel)
    if not same:
        return Decision(command.id, command.fingerprint, Rejection.IDEMPOTENCY_KEY_REUSED)
    return Decision(command.id, command.fingerprint, known.code, replayed=True)


def refuse(line: Line, command: Command, refusal: Refusal) -> Decision:
    """Writes the refusal: it is an outcome, and a repeat will get it again."""
    fingerprint = CANCELLED_FINGERPRINT if isinstance(command, OperationCancel) else command.fingerprint
    line.open_draft().operate(OperationRow(
        command.id, command.kind, command.principal, fingerprint, refusal.code, refusal.detail(),
        postings=_postings(command), subject=_subject(command), reference=command.reference, metadata=command.metadata,
    ))
    line.world.recent[command.id] = Known(fingerprint, refusal.code)
    return Decision(
        command.id, command.fingerprint, refusal.code, available=refusal.available, required=refusal.required,
    )


def needed_accounts(command: Command) -> tuple[AccountId, ...]:
    """The accounts that must be loaded, here or as facts, before the command can be decided."""
    match command:
        case Move():
            return command.source, command.destination
        case HoldCapture():
            return command.account, command.destination
        case HoldPlace() if command.destination is not None:
            return command.account, command.destination
        case AccountCreate() | AccountUpdate() | AccountClose() | HoldPlace() | HoldVoid():
            return (command.account,)
        case AssetCreate() | OperationCancel():
            return ()


def routed_by(command: Command) -> AccountId | None:
    """The account whose partition the command belongs to; None for those that the sender places (asset, cancel)."""
    match command:
        case Move():
            return command.source
        case AssetCreate() | OperationCancel():
            return None
        case _:
            return command.account


def _move(line: Line, command: Move, asking: Asking) -> Decision | Refusal:
    if command.asset not in line.world.assets:
        return Refusal(Rejection.UNKNOWN_ASSET)
    if command.source == command.destination:
        return Refusal(Rejection.SAME_ACCOUNT)
    source = line.account(command.source)
    if source is None or not source.readable_by(command.principal, admin=command.admin):
        return Refusal(Rejection.ACCOUNT_NOT_FOUND)
    landing = _landing(line, command.destination)
    if landing is None:
        return Refusal(Rejection.ACCOUNT_NOT_FOUND)
    if not source.asset == landing.asset == command.asset:
        return Refusal(Rejection.ASSET_MISMATCH)
    refusal = _refuse_debit(source, command.amount) or _refuse_credit(landing, command.amount)
    if refusal is not None:
        return refusal
    # From here on it must succeed.
    draft = line.open_draft()
    draft.enter(source, command.id, -command.amount)
    balances = _credit(line, command, source, landing, command.amount, asking)
    draft.operate(_row(command, postings=_postings(command), accounts=(command.source, command.destination)))
    return Decision(command.id, command.fingerprint, balances=balances, legs=landing.legs)


@dataclass(frozen=True, slots=True)
class Landing:
    """Where a credit goes: an account of this line, or what is known of one elsewhere."""

    account: AccountId
    asset: AssetCode
    here: Account | None
    partition: Partition

    @property
    def legs(self) -> tuple[int, ...]:
        """The partitions whose settlement the answer waits for."""
        return () if self.here is not None else (int(self.partition),)


def _landing(line: Line, destination: AccountId) -> Landing | None:
    partition = line.world.partition_of(destination)
    if partition == line.partition:
        here = line.account(destination)
        return None if here is None else Landing(destination, here.asset, here, partition)
    facts = line.world.facts_of(destination)
    return None if facts is None else Landing(destination, facts.asset, None, partition)


def _refuse_debit(source: Account, amount: int) -> Refusal | None:
    if source.status is not Status.OPEN:
        return Refusal(Rejection.ACCOUNT_CLOSED if source.status is Status.CLOSED else Rejection.ACCOUNT_FROZEN)
    if not source.is_system and source.available < amount:
        return Refusal(Rejection.INSUFFICIENT_FUNDS, available=source.available, required=amount)
    if source.balance - amount < -BALANCE_MINOR_MAX:
        return Refusal(Rejection.LIMIT_EXCEEDED)
    return None


def _refuse_credit(landing: Landing, amount: int) -> Refusal | None:
    if landing.here is None:
        return None  # its own partition decides when the credit lands
    if landing.here.status is Status.CLOSED:
        return Refusal(Rejection.ACCOUNT_CLOSED)
    if landing.here.balance + amount > BALANCE_MINOR_MAX:
        return Refusal(Rejection.LIMIT_EXCEEDED)
    return None


def _credit(
    line: Line, command: Move | HoldCapture, source: Account, landing: Landing, amount: int, asking: Asking,
) -> dict[str, int]:
    """Lands the credit here or sends it on its way; the balances after it that the principal may read."""
    balances: dict[str, int] = {}
    if source.readable_by(command.principal, admin=command.admin):
        balances[source.id] = source.balance
    if landing.here is None:
        line.open_draft().send(landing.partition, Credit(
            command.id, landing.account, landing.asset, amount, source.id, "credit", command.principal, command.admin,
            asking.reply_to,
        ))
        return balances
    line.open_draft().enter(landing.here, command.id, amount)
    if landing.here.readable_by(command.principal, admin=command.admin):
        balances[landing.here.id] = landing.here.balance
    return balances


def _create_account(line: Line, command: AccountCreate, _: Asking) -> Decision | Refusal:
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
    draft.operate(_row(command, subject=command.account, accounts=(command.account,)))
    return Decision(command.id, command.fingerprint)


def _update_account(line: Line, command: AccountUpdate, _: Asking) -> Decision | Refusal:
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
    draft.operate(_row(command, subject=command.account, accounts=(command.account,)))
    return Decision(command.id, command.fingerprint)


def _close_account(line: Line, command: AccountClose, _: Asking) -> Decision | Refusal:
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
    draft.enter(account, command.id, 0)
    _change(line, account, None)
    draft.operate(_row(command, subject=command.account, accounts=(command.account,)))
    return Decision(command.id, command.fingerprint)


def _change(line: Line, account: Account, metadata: str | None) -> None:
    changes = line.open_draft().account_changes
    _, earlier = changes.get(account.id, (account.status, None))
    changes[account.id] = (account.status, earlier if metadata is None else metadata)


def _create_asset(line: Line, command: AssetCreate, _: Asking) -> Decision | Refusal:
    if command.asset in line.world.assets:
        return Refusal(Rejection.ALREADY_EXISTS)
    # From here on it must succeed.
    line.world.assets[command.asset] = command.scale
    draft = line.open_draft()
    draft.open_asset(command.asset, command.scale, command.name, command.id)
    metadata = json.dumps({"scale": command.scale, "name": command.name}, separators=(",", ":"))
    draft.operate(_row(command, subject=command.asset, metadata=metadata))
    return Decision(command.id, command.fingerprint)


def _place_hold(line: Line, command: HoldPlace, asking: Asking) -> Decision | Refusal:
    if command.asset not in line.world.assets:
        return Refusal(Rejection.UNKNOWN_ASSET)
    if command.hold in line.holds:
        return Refusal(Rejection.ALREADY_EXISTS)
    if command.account == command.destination:
        return Refusal(Rejection.SAME_ACCOUNT)
    account = line.account(command.account)
    if account is None or not account.readable_by(command.principal, admin=command.admin):
        return Refusal(Rejection.ACCOUNT_NOT_FOUND)
    landing = None if command.destination is None else _landing(line, command.destination)
    if command.destination is not None and landing is None:
        return Refusal(Rejection.ACCOUNT_NOT_FOUND)
    if account.asset != command.asset or (landing is not None and landing.asset != command.asset):
        return Refusal(Rejection.ASSET_MISMATCH)
    refusal = _refuse_debit(account, command.amount)
    if refusal is not None:
        return refusal
    # From here on it must succeed.
    draft = line.open_draft()
    hold = Hold(command.hold, account.id, account.asset, command.amount, command.destination, command.id)
    line.holds[hold.id] = hold
    expires_at_us = None if command.expires_in_s is None else asking.now_us + command.expires_in_s * MICROSECONDS
    draft.place_hold(hold, expires_at_us)
    draft.enter(account, command.id, 0, command.amount)
    draft.operate(_row(command, subject=command.hold, accounts=(account.id,)))
    return Decision(command.id, command.fingerprint, balances={account.id: account.balance})


def _open_hold(line: Line, command: HoldCapture | HoldVoid) -> tuple[Hold, Account] | Refusal:
    account = line.account(command.account)
    if account is None or not account.readable_by(command.principal, admin=command.admin):
        return Refusal(Rejection.ACCOUNT_NOT_FOUND)
    hold = line.holds.get(command.hold)
    if hold is None or hold.ended is not None or hold.account != account.id:
        return Refusal(Rejection.HOLD_NOT_OPEN)
    return hold, account


def _capture_hold(line: Line, command: HoldCapture, asking: Asking) -> Decision | Refusal:
    if command.account == command.destination:
        return Refusal(Rejection.SAME_ACCOUNT)
    found = _open_hold(line, command)
    if isinstance(found, Refusal):
        return found
    hold, account = found
    landing = _landing(line, command.destination)
    if landing is None:
        return Refusal(Rejection.ACCOUNT_NOT_FOUND)
    if landing.asset != hold.asset:
        return Refusal(Rejection.ASSET_MISMATCH)
    if account.status is Status.FROZEN:
        return Refusal(Rejection.ACCOUNT_FROZEN)
    refusal = _refuse_credit(landing, hold.amount)
    if refusal is not None:
        return refusal
    # From here on it must succeed: the funds were set aside when the hold was placed.
    draft = line.open_draft()
    draft.end_hold(hold, "captured", command.id)
    draft.enter(account, command.id, -hold.amount, -hold.amount)
    balances = _credit(line, command, account, landing, hold.amount, asking)
    postings = _posting(account.id, landing.account, hold.amount, hold.asset)
    draft.operate(_row(command, postings=postings, subject=hold.id, accounts=(account.id, landing.account)))
    return Decision(command.id, command.fingerprint, balances=balances, legs=landing.legs)


def _void_hold(line: Line, command: HoldVoid, _: Asking) -> Decision | Refusal:
    found = _open_hold(line, command)
    if isinstance(found, Refusal):
        return found
    hold, account = found
    # From here on it must succeed.
    draft = line.open_draft()
    draft.end_hold(hold, "voided", command.id)
    draft.enter(account, command.id, 0, -hold.amount)
    draft.operate(_row(command, subject=hold.id, accounts=(account.id,)))
    return Decision(command.id, command.fingerprint, balances={account.id: account.balance})


def _cancel(_line: Line, _command: OperationCancel, _: Asking) -> Refusal:
    return Refusal(Rejection.CANCELLED)


def _posting(source: str, destination: str, amount: int, asset: str) -> str:
    return f'[["{source}","{destination}","{amount}","{asset}"]]'


def _postings(command: Command) -> str | None:
    if isinstance(command, Move):
        return _posting(command.source, command.destination, command.amount, command.asset)
    return None


def _subject(command: Command) -> str | None:
    match command:
        case Move() | OperationCancel():
            return None
        case AssetCreate():
            return command.asset
        case HoldPlace() | HoldCapture() | HoldVoid():
            return command.hold
        case AccountCreate() | AccountUpdate() | AccountClose():
            return command.account


def _row(
    command: Command, *, postings: str | None = None, subject: str | None = None, metadata: str | None = None,
    accounts: tuple[str, ...] = (),
) -> OperationRow:
    return OperationRow(
        command.id, command.kind, command.principal, command.fingerprint, postings=postings, subject=subject,
        reference=command.reference, metadata=metadata or command.metadata, accounts=accounts,
    )


def poisoned(line: Line, command: Command) -> Decision:
    """Writes a command that breaks the core or the database as rejected `internal_error`; its neighbours go on.

    Without what the client wrote freely, which may be what the database refuses; the parked copy has it.
    """
    known = line.world.recent.get(command.id)
    if known is not None:
        raise InvariantBroken(f"{command.id} has an outcome and cannot break anything")
    bare = command.model_copy(update={"reference": None, "metadata": None})
    return refuse(line, bare, Refusal(Rejection.INTERNAL_ERROR))


_ROADS: Final[Mapping[type[Any], Callable[..., Decision | Refusal]]] = {
    Move: _move,
    AccountCreate: _create_account,
    AccountUpdate: _update_account,
    AccountClose: _close_account,
    AssetCreate: _create_asset,
    HoldPlace: _place_hold,
    HoldCapture: _capture_hold,
    HoldVoid: _void_hold,
    OperationCancel: _cancel,
}
