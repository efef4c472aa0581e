"""Submitting a command: it goes to its partition, and its outcome comes back, by a reply or from the journal."""

import asyncio
import hashlib
import json
import zlib
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, TypedDict, cast

import structlog

from services.gateway.store.database import DatabaseUnavailable
from services.gateway.store.operations import RecordedOperation, read_operation
from services.gateway.usecases.caller import Caller
from services.gateway.usecases.faults import CommandNotSent, TooManyCommands
from services.gateway.usecases.state import AppState
from shared.broker.channels import NotPublished, PublishUnknown, QueueFull, Unroutable
from shared.domain.ids import CommandId, Partition, Principal
from shared.domain.rejections import Rejection
from shared.domain.values import value
from shared.ledger_client.pending import CommandResult, PendingCommand
from shared.messages import Command, FieldFault, MixCreate, OperationRefuse, Outcome, Settled
from shared.runtime.compact_json import compact_json

log = structlog.get_logger()

# Who has waited in vain does not wait as long again for a database that does not answer.
LAST_LOOK_S: Final = 1.0
# A stop of the gateway outlasts shorter waits; it ends longer ones.
WAIT_S_LONG: Final = 5.0
# Rejections of which a repeat's reply tells less than the first one did.
DETAILED: Final = frozenset({Rejection.INSUFFICIENT_FUNDS, Rejection.ADDRESS_REFUSED, Rejection.LIMIT_EXCEEDED})


class SubmissionStatus(StrEnum):
    """Unknown differs from pending: not even the broker is known to have the command."""

    POSTED = "posted"
    REJECTED = "rejected"
    PENDING = "pending"
    UNKNOWN = "unknown"


@value
class RejectedOutcome:
    """Why a command was rejected. Amounts in minor units; `errors` name fields of the request."""

    code: Rejection
    available: int | None = None
    required: int | None = None
    errors: Sequence[FieldFault] = ()
    detail: str = ""


@value
class Submission:
    """What became of a command. `scale`: that of the amounts in `rejected`.

    `outcome`: as the reply told it; None when the journal must be read. `is_command` is False for what was rejected
    without becoming a command, for want of an idempotency key under which it could be repeated.
    """

    command: Command | MixCreate
    status: SubmissionStatus
    outcome: Outcome | None = None
    settled: tuple[Settled, ...] = ()
    rejected: RejectedOutcome | None = None
    is_replayed: bool = False
    is_command: bool = True
    scale: int = 0


class CommandHeader(TypedDict):
    """The fields that every command of a caller has."""

    id: CommandId
    repeat: bool
    principal: Principal
    admin: bool
    fingerprint: str


@value
class Identity:
    """What makes a command itself. `is_repeat`: its idempotency key was seen here before."""

    id: CommandId
    is_repeat: bool
    has_key: bool

    def header(self, caller: Caller, content: str) -> CommandHeader:
        """The header of the command, whose fingerprint is `content`."""
        return {
            "id": self.id,
            "repeat": self.is_repeat,
            "principal": caller.principal,
            "admin": caller.admin,
            "fingerprint": content,
        }


def identify(state: AppState, caller: Caller, key: str | None) -> Identity:
    """The command's id: of the caller and the idempotency key, else a fresh one."""
    if key is None:
        return Identity(state.ids.fresh(caller.principal), is_repeat=False, has_key=False)
    command = state.ids.of_key(caller.principal, key)
    return Identity(command, state.recent.note(command), has_key=True)


def fingerprint(route: str, *content: str | int | Sequence[str] | None) -> str:
    """32 hex digits over method, route and what the client sent, with amounts in canonical form."""
    return hashlib.blake2b(compact_json((route, *content)), digest_size=16).hexdigest()


def canonical_amount(text: str) -> str:
    """One text for one amount, whatever the asset's scale: no zeros in front or at the end."""
    whole, _, fraction = text.partition(".")
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def any_partition(command: CommandId, partitions: int) -> Partition:
    """A partition for a command of no account. Wherever it is decided, the key of `operations` arbitrates."""
    return Partition(zlib.crc32(command.encode()) % partitions)


async def submit(
    state: AppState,
    command: Command | MixCreate,
    partition: Partition | None,
    wait_s: float,
    *,
    is_repeat: bool = False,
    scale: int = 0,
) -> Submission:
    """Sends the command and waits up to `wait_s` seconds for its outcome. Without a partition it goes to the mixer.

    `scale`: that of the amounts in a rejection. Raises CommandNotSent or TooManyCommands: the command had no effect.
    """
    pending, result, is_unknown = await _send(state, command, partition, wait_s)
    outcome = None if result is None else result.outcome
    is_replayed = pending.command is not command or (is_repeat if outcome is None else outcome.replayed)
    if outcome is None or (outcome.replayed and outcome.code in DETAILED):
        recorded = await _look_up(state, command.id) if wait_s or is_repeat else None
        if recorded is None:
            return _undecided(state, command, is_unknown=is_unknown)
        state.metrics.resolved.inc()
        rejected = recorded_rejection(recorded, command.fingerprint)
    else:
        rejected = _told_rejection(command, outcome)
    state.metrics.outcomes[kind_of(command), "posted" if rejected is None else rejected.code.value] += 1
    if is_replayed:
        state.metrics.replays.inc()
    if rejected is not None:
        is_replayed = is_replayed and rejected.code is not Rejection.IDEMPOTENCY_KEY_REUSED
        return Submission(command, SubmissionStatus.REJECTED, rejected=rejected, is_replayed=is_replayed, scale=scale)
    is_told = result is not None and outcome is not None and not outcome.replayed and result.is_settled
    return Submission(
        command,
        SubmissionStatus.POSTED,
        outcome if is_told else None,
        result.settled if result is not None and is_told else (),
        is_replayed=is_replayed,
        scale=scale,
    )


def kind_of(command: Command | MixCreate) -> str:
    """The kind as clients see it, such as `transfer`."""
    return (command.of if isinstance(command, OperationRefuse) else command.kind).removesuffix(".v1")


def recorded_rejection(recorded: RecordedOperation, content: str) -> RejectedOutcome | None:
    """What the journal says to a command with this fingerprint; None when it was posted."""
    if not recorded.has_content(content):
        return RejectedOutcome(Rejection.IDEMPOTENCY_KEY_REUSED)
    if recorded.code is None:
        return None
    detail: object = json.loads(recorded.detail) if recorded.detail else {}
    if isinstance(detail, list):
        errors = [FieldFault(**error) for error in cast("list[dict[str, str]]", detail)]
        return RejectedOutcome(Rejection(recorded.code), errors=errors)
    funds = {name: int(amount) for name, amount in cast("dict[str, str]", detail).items()}
    return RejectedOutcome(Rejection(recorded.code), funds.get("available"), funds.get("required"))


def _told_rejection(command: Command | MixCreate, outcome: Outcome) -> RejectedOutcome | None:
    """What a reply says; None when the command was posted."""
    if outcome.code is None:
        return None
    is_own = isinstance(command, OperationRefuse) and outcome.code is command.code
    errors = command.errors if isinstance(command, OperationRefuse) and is_own else outcome.errors
    return RejectedOutcome(outcome.code, outcome.available, outcome.required, errors)


async def _send(
    state: AppState, command: Command | MixCreate, partition: Partition | None, wait_s: float
) -> tuple[PendingCommand, CommandResult | None, bool]:
    """What was sent, its result if there is one yet, and whether it is unknown if the command reached the broker."""
    try:
        if isinstance(command, MixCreate):
            pending = state.ledger.send_order(command)
        elif partition is not None:
            pending = state.ledger.send(command, partition)
        else:
            raise ValueError("a command of the ledger goes to a partition")
        try:
            return pending, await _wait(state, pending, wait_s), False
        except PublishUnknown as fault:
            log.warning("command.unknown", operation_id=command.id, fault=repr(fault))
            return pending, None, True
    except (NotPublished, Unroutable) as fault:
        log.warning("command.not_sent", operation_id=command.id, partition=partition, fault=repr(fault))
        raise CommandNotSent("the message broker does not take commands") from fault
    except QueueFull as fault:
        raise TooManyCommands("too many commands wait") from fault


async def _wait(state: AppState, pending: PendingCommand, wait_s: float) -> CommandResult | None:
    """The result within so many seconds. A stop of the gateway ends a long wait."""
    if state.stopping.has_begun:
        wait_s = min(wait_s, 1.0)
    if wait_s <= WAIT_S_LONG:
        return await state.ledger.result(pending, wait_s)
    waits = state.stopping.waits
    try:
        async with asyncio.timeout(wait_s) as wait:
            waits.add(wait)
            try:
                return await state.ledger.result(pending, wait_s + 1.0)
            finally:
                waits.discard(wait)
    except TimeoutError:
        return None if pending.outcome is None else CommandResult(pending.outcome, pending.settled)


async def _look_up(state: AppState, command: CommandId) -> RecordedOperation | None:
    """The operation, if the journal has its outcome and can be read."""
    try:
        recorded = await read_operation(state.database, command, within_s=LAST_LOOK_S)
    except DatabaseUnavailable as fault:
        log.warning("database.unavailable", operation_id=command, fault=str(fault))
        return None
    return None if recorded is None or recorded.outcome == "started" else recorded


def _undecided(state: AppState, command: Command | MixCreate, *, is_unknown: bool) -> Submission:
    (state.metrics.unknown if is_unknown else state.metrics.undecided).inc()
    return Submission(command, SubmissionStatus.UNKNOWN if is_unknown else SubmissionStatus.PENDING)
