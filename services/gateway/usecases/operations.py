"""Operations: the outcome of a command, and how a client ends one that has no outcome."""

import asyncio
import time
from dataclasses import replace
from typing import Final

from services.gateway.store.accounts import read_account
from services.gateway.store.keys import read_principals
from services.gateway.store.operations import RecordedOperation, read_operation
from services.gateway.store.transactions import parse_postings
from services.gateway.usecases.caller import ADMIN, Caller
from services.gateway.usecases.faults import NotFound
from services.gateway.usecases.refuse import refuse
from services.gateway.usecases.state import AppState
from services.gateway.usecases.submit import RejectedOutcome, Submission, SubmissionStatus, Write, submit
from shared.domain.ids import MIXER, OPERATOR, UUID_TEXT, CommandId, Principal
from shared.domain.rejections import Rejection
from shared.messages import OperationCancel

POLL_S_MIN: Final = 0.05
POLL_S_MAX: Final = 0.5
CANCEL_KIND: Final = "operation.cancel.v1"


async def operation(state: AppState, caller: Caller, identity: str, wait_s: float) -> RecordedOperation | None:
    """The operation once it has an outcome; None when it has none after `wait_s` seconds.

    Raises NotFound when it is another principal's or no gateway made the id, or DatabaseUnavailable.
    """
    until_s, pause_s = time.monotonic() + wait_s, POLL_S_MIN
    recorded = await _decided(state, caller, command_id(identity))
    while recorded is None and time.monotonic() < until_s and not state.stopping.has_begun:
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, POLL_S_MAX)
        recorded = await _decided(state, caller, command_id(identity))
    return recorded


async def cancel_operation(write: Write, identity: str) -> Submission:
    """Ends an operation without an outcome for good: the ledger records its id as rejected `cancelled`.

    An idempotency key of the cancel itself is recorded as an operation of its own. The submission is posted if the
    operation has an outcome now, `cancelled` or an earlier one; rejected if the key was used for another request; else
    pending or unknown. Raises NotFound, CommandNotSent, TooManyCommands, DatabaseUnavailable.
    """
    cancelled = command_id(identity)
    recorded = await _decided(write.state, write.caller, cancelled)
    command = OperationCancel(id=cancelled, principal=write.caller.principal, fingerprint=write.content, repeat=True)
    is_replayed = False
    if write.has_key:
        key_use = await _use_up_key(write, command)
        if key_use.rejected is None or key_use.rejected.code is not Rejection.CANCELLED:
            return key_use
        is_replayed = key_use.is_replayed
    if recorded is None:
        owner = await _owner(write.state, write.caller, cancelled)
        command = command.model_copy(update={"principal": owner})
        submission = await submit(replace(write, is_repeat=True), command)
        if submission.status in {SubmissionStatus.PENDING, SubmissionStatus.UNKNOWN}:
            return submission
    return Submission(command, SubmissionStatus.POSTED, is_replayed=is_replayed)


async def scale_of(state: AppState, recorded: RecordedOperation) -> int | None:
    """The scale of the amounts in a rejection; None if the journal does not tell the operation's asset."""
    code: str | None = None
    if recorded.postings is not None:
        code = parse_postings(recorded.postings)[0].asset
    elif recorded.kind.startswith("account.") and recorded.subject is not None:
        account = await read_account(state.database, recorded.subject)
        code = account and account.asset
    asset = None if code is None else await state.assets.find(code)
    return None if asset is None else asset.scale


def command_id(text: str) -> CommandId:
    """The text as a command id. Raises NotFound if it is no UUID."""
    if not UUID_TEXT.fullmatch(text):
        raise NotFound("operation")
    return CommandId(text)


async def _use_up_key(write: Write, cancel: OperationCancel) -> Submission:
    """Records the cancel's own key as an operation rejected `cancelled`, so that no other request can use the key."""
    if write.id == cancel.id:
        rejected = RejectedOutcome(
            Rejection.IDEMPOTENCY_KEY_REUSED, detail="the key is that of the operation to be cancelled"
        )
        return Submission(cancel, SubmissionStatus.REJECTED, rejected=rejected, is_command=False)
    return await refuse(write, CANCEL_KIND, RejectedOutcome(Rejection.CANCELLED))


async def _decided(state: AppState, caller: Caller, identity: CommandId) -> RecordedOperation | None:
    """The operation, if it has an outcome. Raises NotFound when it is another principal's or no gateway made the id."""
    recorded = await read_operation(state.database, identity)
    if recorded is None:
        await _owner(state, caller, identity)
        return None
    if not caller.may_see(recorded.principal):
        raise NotFound("operation")
    return None if recorded.outcome == "started" else recorded


async def _owner(state: AppState, caller: Caller, identity: CommandId) -> Principal:
    """The principal for whom a gateway made this id. Raises NotFound if there is none that the caller may see."""
    if state.ids.is_issued(identity, caller.principal):
        return caller.principal
    if caller.admin:
        for principal in (ADMIN, MIXER, OPERATOR, *await read_principals(state.database)):
            if state.ids.is_issued(identity, principal):
                return principal
    raise NotFound("operation")
