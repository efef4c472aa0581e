"""Ending commands that cannot be made at all: the ledger writes the rejection down, and a repeat gets the same."""

from services.gateway.store.operations import read_operation
from services.gateway.usecases.caller import Caller
from services.gateway.usecases.faults import InvalidField
from services.gateway.usecases.state import AppState, UnknownAsset
from services.gateway.usecases.submit import (
    Identity,
    RejectedOutcome,
    Submission,
    SubmissionStatus,
    any_partition,
    recorded_rejection,
    submit,
)
from shared.domain.money import AmountError
from shared.domain.rejections import Rejection
from shared.messages import FieldFault, OperationRefuse, RefusedKind


async def refuse(
    state: AppState,
    caller: Caller,
    identity: Identity,
    kind: RefusedKind,
    content: str,
    rejected: RejectedOutcome,
    wait_s: float,
) -> Submission:
    """Ends a command of `kind` that cannot be made at all. `content` is its fingerprint.

    With an idempotency key the ledger writes the rejection down, so that a repeat gets the same, whatever becomes of
    the reason. Never posted.
    """
    command = OperationRefuse(
        **identity.header(caller, content), of=kind, code=rejected.code, errors=tuple(rejected.errors)
    )
    if not identity.has_key:
        return Submission(command, SubmissionStatus.REJECTED, rejected=rejected, is_command=False)
    submission = await submit(
        state, command, any_partition(command.id, state.partitions), wait_s, is_repeat=identity.is_repeat
    )
    if submission.status is SubmissionStatus.POSTED:
        # The same request came again when the reason was gone, and was posted: the operation tells of it.
        return Submission(command, SubmissionStatus.PENDING)
    return submission


async def refuse_amount(
    state: AppState,
    caller: Caller,
    identity: Identity,
    kind: RefusedKind,
    content: str,
    fault: UnknownAsset | AmountError,
    field: str,
    wait_s: float,
) -> Submission:
    """Ends a command whose amount, in this field, cannot be told in minor units.

    Raises InvalidField for what never becomes a command, unless the journal holds a rejection for the same content.
    """
    if isinstance(fault, UnknownAsset):
        unknown = RejectedOutcome(Rejection.UNKNOWN_ASSET, detail=str(fault))
        return await refuse(state, caller, identity, kind, content, unknown, wait_s)
    if fault.code == Rejection.LIMIT_EXCEEDED:
        errors = (FieldFault(field=field, message=fault.detail),)
        exceeded = RejectedOutcome(Rejection.LIMIT_EXCEEDED, errors=errors, detail=f"{field}: {fault.detail}")
        return await refuse(state, caller, identity, kind, content, exceeded, wait_s)
    recorded = await read_operation(state.database, identity.id) if identity.has_key else None
    if recorded is None or recorded.outcome != "rejected" or not recorded.has_content(content):
        raise InvalidField(fault.code, field, fault.detail)
    command = OperationRefuse(
        id=identity.id, principal=caller.principal, fingerprint=content, of=kind, code=Rejection(str(recorded.code))
    )
    rejected = recorded_rejection(recorded, content)
    return Submission(command, SubmissionStatus.REJECTED, rejected=rejected, is_replayed=True)
