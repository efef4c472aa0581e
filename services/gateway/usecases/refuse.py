"""Rejects requests that cannot become a command. The ledger records the rejection, so that a repeat gets the same."""

from services.gateway.store.operations import read_operation
from services.gateway.usecases.faults import InvalidField
from services.gateway.usecases.state import UnknownAsset
from services.gateway.usecases.submit import (
    RejectedOutcome,
    Submission,
    SubmissionStatus,
    Write,
    recorded_rejection,
    submit,
)
from shared.domain.money import AmountError
from shared.domain.rejections import Rejection
from shared.messages import FieldFault, OperationRefuse, RefusedKind


async def refuse(write: Write, kind: RefusedKind, rejected: RejectedOutcome) -> Submission:
    """Rejects a request for a command of `kind` that cannot be built, such as one for an unknown asset.

    The ledger records the rejection, so that a repeat with the same key gets it even when the reason is gone. If the
    same request was posted meanwhile, the submission is posted. Raises CommandNotSent or TooManyCommands.
    """
    command = OperationRefuse(**write.header(), of=kind, code=rejected.code, errors=tuple(rejected.errors))
    return await submit(write, command)


async def refuse_amount(write: Write, kind: RefusedKind, fault: UnknownAsset | AmountError, field: str) -> Submission:
    """Rejects a request whose amount in `field` cannot be converted to minor units, as `refuse` does.

    Raises InvalidField for an amount that is no valid one of its asset, unless the journal has a rejection of the same
    key and content, which is then repeated.
    """
    if isinstance(fault, UnknownAsset):
        return await refuse(write, kind, RejectedOutcome(Rejection.UNKNOWN_ASSET))
    if fault.code == Rejection.LIMIT_EXCEEDED:
        errors = (FieldFault(field=field, message=fault.detail),)
        return await refuse(write, kind, RejectedOutcome(Rejection.LIMIT_EXCEEDED, errors=errors))
    recorded = await read_operation(write.state.database, write.id) if write.has_key else None
    if recorded is None or recorded.outcome != "rejected" or not recorded.has_content(write.content):
        raise InvalidField(fault.code, field, fault.detail)
    command = OperationRefuse(**write.header(), of=kind, code=Rejection(str(recorded.code)))
    rejected = recorded_rejection(recorded, write.content)
    return Submission(command, SubmissionStatus.REJECTED, rejected=rejected, is_replayed=True)
