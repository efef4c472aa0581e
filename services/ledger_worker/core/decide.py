"""Decides commands. For each kind: first all checks, then the changes, which cannot fail.

A decision changes the partition's accounts in memory and adds lines to its open batch. Nothing leaves the worker before
that batch is committed.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from services.ledger_worker.core.account_changes import close_account, create_account, create_asset, update_account
from services.ledger_worker.core.batch import OperationRow
from services.ledger_worker.core.holds import capture_hold, place_hold, void_hold
from services.ledger_worker.core.outcomes import CommandContext, Decision, KnownOutcome, Rejected
from services.ledger_worker.core.state import PartitionState
from services.ledger_worker.core.transfers import post_transaction, postings_text
from shared.domain.ids import AccountId
from shared.domain.lifecycle import InvariantBroken
from shared.domain.rejections import Rejection
from shared.journal.rows import ANY_CONTENT_FINGERPRINT
from shared.messages import (
    AccountClose,
    AccountCreate,
    AccountUpdate,
    AssetCreate,
    Command,
    HoldCapture,
    HoldPlace,
    HoldVoid,
    OperationCancel,
    OperationRefuse,
    OperatorDecision,
    PostTransaction,
)


def decide(partition: PartitionState, command: Command, context: CommandContext) -> Decision:
    """Decides one command on top of all earlier decisions. A repeat gets the first outcome, and nothing is written."""
    known = partition.ledger.recent.get(command.id)
    if known is not None:
        return repeated(command, known)
    result = _DECIDE[type(command)](partition, command, context)
    if isinstance(result, Rejected):
        return reject(partition, command, result)
    partition.ledger.recent[command.id] = KnownOutcome(command.fingerprint, None)
    return result


def repeated(command: Command, known: KnownOutcome) -> Decision:
    """A repeat gets the first outcome again. The same id with other content is refused, and nothing is written."""
    same = known.fingerprint in {command.fingerprint, ANY_CONTENT_FINGERPRINT} or isinstance(command, OperationCancel)
    if not same:
        return Decision(command.id, command.fingerprint, Rejection.IDEMPOTENCY_KEY_REUSED)
    return Decision(command.id, command.fingerprint, known.code, replayed=True)


def reject(partition: PartitionState, command: Command, rejected: Rejected) -> Decision:
    """Writes the rejection to the journal, since it is an outcome that a repeat must get again."""
    fingerprint = ANY_CONTENT_FINGERPRINT if isinstance(command, OperationCancel) else command.fingerprint
    partition.open_batch().add_operation(
        OperationRow(
            command.id,
            command.of if isinstance(command, OperationRefuse) else command.kind,
            command.principal,
            fingerprint,
            rejected.code,
            rejected.detail(),
            postings=_postings_of(command),
            subject=_subject_of(command),
            reference=command.reference,
            metadata=command.metadata,
        )
    )
    partition.ledger.recent[command.id] = KnownOutcome(fingerprint, rejected.code)
    return Decision(
        command.id,
        command.fingerprint,
        rejected.code,
        available=rejected.available,
        required=rejected.required,
    )


def reject_poison(partition: PartitionState, command: Command) -> Decision:
    """Writes a command that breaks the core or the database as rejected `internal_error`.

    The client's free text is left out, since it may be what the database refuses; the dead letter keeps it.
    """
    if command.id in partition.ledger.recent:
        raise InvariantBroken(f"{command.id} has an outcome and cannot break anything")
    bare = command.model_copy(update={"reference": None, "metadata": None})
    return reject(partition, bare, Rejected(Rejection.INTERNAL_ERROR))


def deciding_account(command: Command) -> AccountId | None:
    """The account whose partition must decide the command; None when any partition may decide it."""
    match command:
        case PostTransaction():
            return command.postings[0].source
        case AssetCreate() | OperationCancel() | OperationRefuse() | OperatorDecision():
            return None
        case _:
            return command.account


def needed_accounts(command: Command) -> tuple[AccountId, ...]:
    """The accounts that must be loaded before the command is decided; of other partitions' accounts only the facts."""
    match command:
        case PostTransaction():
            [posting] = command.postings
            return posting.source, posting.destination
        case HoldCapture():
            return command.account, command.destination
        case HoldPlace() if command.destination is not None:
            return command.account, command.destination
        case AccountCreate() | AccountUpdate() | AccountClose() | HoldPlace() | HoldVoid():
            return (command.account,)
        case AssetCreate() | OperationCancel() | OperationRefuse() | OperatorDecision():
            return ()


def _postings_of(command: Command) -> str | None:
    """The postings that the command asks for, as JSON; None for one that moves no money by itself."""
    if not isinstance(command, PostTransaction):
        return None
    [posting] = command.postings
    return postings_text(posting.source, posting.destination, posting.amount, posting.asset)


def _subject_of(command: Command) -> str | None:
    match command:
        case PostTransaction() | OperationCancel() | OperationRefuse() | OperatorDecision():
            return None
        case AssetCreate():
            return command.asset
        case HoldPlace() | HoldCapture() | HoldVoid():
            return command.hold
        case AccountCreate() | AccountUpdate() | AccountClose():
            return command.account


def _cancel(_partition: PartitionState, _command: OperationCancel, _: CommandContext) -> Rejected:
    return Rejected(Rejection.CANCELLED)


def _refuse_as_told(_partition: PartitionState, command: OperationRefuse, _: CommandContext) -> Rejected:
    return Rejected(command.code, errors=command.errors)


def _record(partition: PartitionState, command: OperatorDecision, _: CommandContext) -> Decision:
    partition.open_batch().add_posted(command)
    return Decision(command.id, command.fingerprint)


_DECIDE: Final[Mapping[type[Any], Callable[..., Decision | Rejected]]] = {
    PostTransaction: post_transaction,
    AccountCreate: create_account,
    AccountUpdate: update_account,
    AccountClose: close_account,
    AssetCreate: create_asset,
    HoldPlace: place_hold,
    HoldCapture: capture_hold,
    HoldVoid: void_hold,
    OperationCancel: _cancel,
    OperationRefuse: _refuse_as_told,
    OperatorDecision: _record,
}
