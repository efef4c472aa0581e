"""Decides commands, one straight road for each kind: checks in the order of Rejection, then what must succeed.

A decision changes the line's accounts in memory and adds lines to its draft; nothing leaves before that is committed.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from services.ledger_worker.core.account_changes import close_account, create_account, create_asset, update_account
from services.ledger_worker.core.decision import Asking, Decision, Refusal, postings_of
from services.ledger_worker.core.draft import CANCELLED_FINGERPRINT, OperationRow
from services.ledger_worker.core.hold_changes import capture_hold, place_hold, void_hold
from services.ledger_worker.core.line import InvariantBroken, Known, Line
from services.ledger_worker.core.moves import move
from shared.ids import AccountId
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
    OperationRefuse,
)
from shared.rejections import Rejection


def decide(line: Line, command: Command, asking: Asking) -> Decision:
    """Decides one command on top of everything decided before it.

    A repeat gets the first outcome and writes nothing.
    """
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
    line.open_draft().operate(
        OperationRow(
            command.id,
            command.of if isinstance(command, OperationRefuse) else command.kind,
            command.principal,
            fingerprint,
            refusal.code,
            refusal.detail(),
            postings=postings_of(command),
            subject=_subject(command),
            reference=command.reference,
            metadata=command.metadata,
        )
    )
    line.world.recent[command.id] = Known(fingerprint, refusal.code)
    return Decision(
        command.id,
        command.fingerprint,
        refusal.code,
        available=refusal.available,
        required=refusal.required,
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
        case AssetCreate() | OperationCancel() | OperationRefuse():
            return ()


def _subject(command: Command) -> str | None:
    match command:
        case Move() | OperationCancel() | OperationRefuse():
            return None
        case AssetCreate():
            return command.asset
        case HoldPlace() | HoldCapture() | HoldVoid():
            return command.hold
        case AccountCreate() | AccountUpdate() | AccountClose():
            return command.account


def _cancel(_line: Line, _command: OperationCancel, _: Asking) -> Refusal:
    return Refusal(Rejection.CANCELLED)


def _refuse_as_told(_line: Line, command: OperationRefuse, _: Asking) -> Refusal:
    return Refusal(command.code, errors=command.errors)


_ROADS: Final[Mapping[type[Any], Callable[..., Decision | Refusal]]] = {
    Move: move,
    AccountCreate: create_account,
    AccountUpdate: update_account,
    AccountClose: close_account,
    AssetCreate: create_asset,
    HoldPlace: place_hold,
    HoldCapture: capture_hold,
    HoldVoid: void_hold,
    OperationCancel: _cancel,
    OperationRefuse: _refuse_as_told,
}

__all__ = ["Asking", "Decision", "decide", "needed_accounts", "poisoned", "repeated"]
