"""Operations: what became of a command, and how an unknown ends for good."""

import asyncio
import time
from typing import Final

from services.gateway.store.accounts import read_account
from services.gateway.store.keys import read_principals
from services.gateway.store.operations import RecordedOperation, read_operation
from services.gateway.store.transactions import parse_postings
from services.gateway.usecases.caller import ADMIN, Caller
from services.gateway.usecases.faults import NotFound
from services.gateway.usecases.refuse import refuse
from services.gateway.usecases.state import AppState
from services.gateway.usecases.submit import (
    RejectedOutcome,
    Submission,
    SubmissionStatus,
    any_partition,
    fingerprint,
    identify,
    submit,
)
from shared.domain.ids import MIXER, UUID_TEXT, CommandId, Principal
from shared.domain.rejections import Rejection
from shared.messages import OperationCancel

POLL_S_MIN: Final = 0.05
POLL_S_MAX: Final = 0.5
CANCEL_KIND: Final = "operation.cancel.v1"


async def operation(state: AppState, caller: Caller, identity: str, wait_s: float) -> RecordedOperation | None:
    """The operation once it has an outcome; None when it has none after `wait_s` seconds.

    Raises NotFound when it is another's or was never issued, or DatabaseUnavailable.
    """
    until_s, pause_s = time.monotonic() + wait_s, POLL_S_MIN
    recorded = await _decided(state, caller, command_id(identity))
    while recorded is None and time.monotonic() < until_s and not state.stopping.has_begun:
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, POLL_S_MAX)
        recorded = await _decided(state, caller, command_id(identity))
    return recorded


async def cancel_operation(
    state: AppState, caller: Caller, key: str | None, identity: str, wait_s: float
) -> Submission:
    """Ends an unknown: writes its id as rejected `cancelled`, unless it has an outcome already.

    A key of the cancel itself is used up by an operation of its own. Posted: the operation named has an outcome now,
    the cancelling or another. Else rejected (the key was used for something else), pending or unknown. Raises NotFound,
    CommandNotSent, TooManyCommands, DatabaseUnavailable.
    """
    cancelled = command_id(identity)
    content = fingerprint("POST /v1/operations/{id}/cancel", cancelled)
    recorded = await _decided(state, caller, cancelled)
    command = OperationCancel(id=cancelled, principal=caller.principal, fingerprint=content, repeat=True)
    is_replayed = False
    if key is not None:
        kept = await _use_up_key(state, caller, key, cancelled, content, wait_s)
        if kept.rejected is None or kept.rejected.code is not Rejection.CANCELLED:
            return kept
        is_replayed = kept.is_replayed
    if recorded is None:
        owner = await _owner(state, caller, cancelled)
        command = command.model_copy(update={"principal": owner})
        submission = await submit(state, command, any_partition(cancelled, state.partitions), wait_s, is_repeat=True)
        if submission.status in {SubmissionStatus.PENDING, SubmissionStatus.UNKNOWN}:
            return submission
    return Submission(command, SubmissionStatus.POSTED, is_replayed=is_replayed)


async def scale_of(state: AppState, recorded: RecordedOperation) -> int | None:
    """The scale of the amounts in a rejection; None where the operation does not lead to an asset."""
    code: str | None = None
    if recorded.postings is not None:
        code = parse_postings(recorded.postings)[0].asset
    elif recorded.kind.startswith("account.") and recorded.subject is not None:
        account = await read_account(state.database, recorded.subject)
        code = account and account.asset
    asset = None if code is None else await state.assets.find(code)
    return None if asset is None else asset.scale


def command_id(text: str) -> CommandId:
    """The id. Raises NotFound for what cannot be one."""
    if not UUID_TEXT.fullmatch(text):
        raise NotFound("operation")
    return CommandId(text)


async def _use_up_key(
    state: AppState, caller: Caller, key: str, cancelled: CommandId, content: str, wait_s: float
) -> Submission:
    """Its operation stands in the journal as rejected `cancelled`."""
    identity = identify(state, caller, key)
    if identity.id == cancelled:
        rejected = RejectedOutcome(
            Rejection.IDEMPOTENCY_KEY_REUSED, detail="the key is that of the operation to be cancelled"
        )
        command = OperationCancel(id=cancelled, principal=caller.principal, fingerprint=content)
        return Submission(command, SubmissionStatus.REJECTED, rejected=rejected, is_command=False)
    return await refuse(state, caller, identity, CANCEL_KIND, content, RejectedOutcome(Rejection.CANCELLED), wait_s)


async def _decided(state: AppState, caller: Caller, identity: CommandId) -> RecordedOperation | None:
    """The operation, if it has an outcome. Raises NotFound when it is another's, or was never issued."""
    recorded = await read_operation(state.database, identity)
    if recorded is None:
        await _owner(state, caller, identity)
        return None
    if not caller.may_see(recorded.principal):
        raise NotFound("operation")
    return None if recorded.outcome == "started" else recorded


async def _owner(state: AppState, caller: Caller, identity: CommandId) -> Principal:
    """The principal for whose command a gateway made this id. Raises NotFound unless the caller may know."""
    if state.ids.is_issued(identity, caller.principal):
        return caller.principal
    if caller.admin:
        for principal in (ADMIN, MIXER, *await read_principals(state.database)):
            if state.ids.is_issued(identity, principal):
                return principal
    raise NotFound("operation")
