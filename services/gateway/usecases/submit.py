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
from services.gateway.store.operations import RecordedOperation
from services.gateway.store.outcomes import RecordedOutcome
from services.gateway.store.transactions import Reader, TransactionFacts
from services.gateway.usecases.caller import Caller
from services.gateway.usecases.faults import CommandNotSent, TooManyCommands
from services.gateway.usecases.state import AppState
from shared.broker.channels import NotPublished, PublishUnknown, QueueFull, Unroutable
from shared.domain.ids import CommandId, Partition, Principal
from shared.domain.rejections import Rejection
from shared.domain.values import value
from shared.ledger_client.pending import CommandResult, PendingCommand
from shared.messages import Command, FieldFault, MixCreate, OperationRefuse, Outcome, PostTransaction, Settled
from shared.runtime.compact_json import compact_json

log = structlog.get_logger()

# For the read of the journal after a wait without a reply: short, since the client has waited already.
LAST_LOOK_S: Final = 1.0
# A stop of the gateway ends waits that are longer than this; the others end in time by themselves.
WAIT_S_LONG: Final = 5.0
# Rejections whose details (amounts, fields) the reply to a repeat leaves out: they are read from the journal.
DETAILED: Final = frozenset({Rejection.INSUFFICIENT_FUNDS, Rejection.ADDRESS_REFUSED, Rejection.LIMIT_EXCEEDED})


class SubmissionStatus(StrEnum):
    """Pending and unknown have no outcome yet; unknown: it is not even known whether the broker has the command."""

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
    """What became of a command. `scale`: fraction digits of its amounts.

    `outcome`, `settled`: from the reply; `transaction`: from the journal. With neither, the journal must be read.
    `is_command` is False for a request that the gateway rejected without sending a command, so that there is no
    operation to ask for.
    """

    command: Command | MixCreate
    status: SubmissionStatus
    outcome: Outcome | None = None
    settled: tuple[Settled, ...] = ()
    transaction: TransactionFacts | None = None
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
class Write:
    """A write as a client asks for it. `content` is its fingerprint; the client waits up to `wait_s` seconds.

    `id`: of the command, derived from principal and idempotency key, or fresh without a key. `is_repeat`: this gateway
    has lately sent a command with this id.
    """

    state: AppState
    caller: Caller
    id: CommandId
    content: str
    wait_s: float
    has_key: bool
    is_repeat: bool

    def header(self) -> CommandHeader:
        """The header of the command."""
        return {
            "id": self.id,
            "repeat": self.is_repeat,
            "principal": self.caller.principal,
            "admin": self.caller.admin,
            "fingerprint": self.content,
        }


def begin(state: AppState, caller: Caller, key: str | None, content: str, wait_s: float) -> Write:
    """The write of a request with this idempotency key, if any, and this fingerprint; see Write."""
    if key is None:
        command, is_repeat = state.ids.fresh(caller.principal), False
    else:
        command = state.ids.of_key(caller.principal, key)
        is_repeat = command in state.recent
    return Write(state, caller, command, content, wait_s, has_key=key is not None, is_repeat=is_repeat)


def fingerprint(route: str, *content: str | int | Sequence[str] | None) -> str:
    """32 hex digits over method, route and what the client sent, with amounts in canonical form."""
    return hashlib.blake2b(compact_json((route, *content)), digest_size=16).hexdigest()


def canonical_amount(text: str) -> str:
    """The same text for equal amounts: no leading zeros, no trailing zeros of the fraction."""
    whole, _, fraction = text.partition(".")
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


async def submit(
    write: Write, command: Command | MixCreate, partition: Partition | None = None, *, scale: int = 0
) -> Submission:
    """Sends the command and waits for its outcome. `partition` None: any may decide it; a mix goes to the mixer.

    A repeat is sent only if it is not pending here and the journal has no outcome of it. `scale`: fraction digits of
    its amounts. Raises CommandNotSent or TooManyCommands: the command had no effect.
    """
    state, is_repeat = write.state, write.is_repeat
    # One that is pending here is waited for instead: the journal may not have all of its credits yet.
    is_known = is_repeat and not state.ledger.is_pending(command)
    if is_known and (found := await _look_up(write, command)) is not None:
        return _recorded(state, command, found, is_replayed=True, scale=scale)
    if write.has_key:
        state.recent.note(write.id)
    pending, result, is_unknown = await _send(write, command, partition)
    outcome = None if result is None else result.outcome
    # A repeat: it has joined the same command, or was sent before, as this gateway remembers or the worker replies.
    is_replayed = pending.command is not command or (is_repeat if outcome is None else outcome.replayed)
    if result is None or outcome is None or _is_partial(command, outcome):
        # Who does not wait gets 202 without a read.
        found = await _look_up(write, command) if write.wait_s else None
        if found is None:
            return _undecided(state, command, is_unknown=is_unknown)
        if outcome is None:
            state.metrics.resolved.inc()
        return _recorded(state, command, found, is_replayed=is_replayed, scale=scale)
    rejected = _replied_rejection(command, outcome)
    is_replayed = _count(state, command, rejected, is_replayed=is_replayed)
    if rejected is not None:
        return Submission(command, SubmissionStatus.REJECTED, rejected=rejected, is_replayed=is_replayed, scale=scale)
    is_whole = not outcome.replayed and result.is_settled
    return Submission(
        command,
        SubmissionStatus.POSTED,
        outcome if is_whole else None,
        result.settled if is_whole else (),
        is_replayed=is_replayed,
        scale=scale,
    )


def kind_of(command: Command | MixCreate) -> str:
    """The kind as clients see it, such as `transfer`."""
    return (command.of if isinstance(command, OperationRefuse) else command.kind).removesuffix(".v1")


def recorded_rejection(recorded: RecordedOperation, content: str) -> RejectedOutcome | None:
    """Why the journal rejects a command with this id and fingerprint; None when it was posted."""
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


def _replied_rejection(command: Command | MixCreate, outcome: Outcome) -> RejectedOutcome | None:
    """Why a reply rejects the command; None when it was posted."""
    if outcome.code is None:
        return None
    is_refusal = isinstance(command, OperationRefuse) and outcome.code is command.code
    errors = command.errors if isinstance(command, OperationRefuse) and is_refusal else outcome.errors
    return RejectedOutcome(outcome.code, outcome.available, outcome.required, errors)


async def _send(
    write: Write, command: Command | MixCreate, partition: Partition | None
) -> tuple[PendingCommand, CommandResult | None, bool]:
    """The pending command, its result if there is one yet, and whether the broker may or may not have the command."""
    ledger = write.state.ledger
    try:
        if isinstance(command, MixCreate):
            pending = ledger.send_order(command)
        else:
            if partition is None:  # any will do: the key of `operations` admits one outcome
                partition = Partition(zlib.crc32(command.id.encode()) % ledger.partitions)
            pending = ledger.send(command, partition)
        try:
            return pending, await _wait(write.state, pending, write.wait_s), False
        except PublishUnknown as fault:
            log.warning("command.unknown", operation_id=command.id, fault=repr(fault))
            return pending, None, True
    except (NotPublished, Unroutable) as fault:
        log.warning("command.not_sent", operation_id=command.id, partition=partition, fault=repr(fault))
        raise CommandNotSent("the message broker does not take commands") from fault
    except QueueFull as fault:
        raise TooManyCommands("too many commands wait") from fault


async def _wait(state: AppState, pending: PendingCommand, wait_s: float) -> CommandResult | None:
    """The result within `wait_s` seconds, None without one. A stop of the gateway ends a long wait."""
    if state.stopping.has_begun:
        wait_s = min(wait_s, 1.0)
    if wait_s <= WAIT_S_LONG:
        return await state.ledger.result(pending, wait_s)
    waits = state.stopping.waits
    try:
        async with asyncio.timeout(wait_s) as wait:
            waits.add(wait)
            try:
                return await state.ledger.result(pending, wait_s + 1.0)  # `wait` ends first
            finally:
                waits.discard(wait)
    except TimeoutError:
        return await state.ledger.result(pending, 0.0)


def _is_partial(command: Command | MixCreate, outcome: Outcome) -> bool:
    """Whether the reply to a repeat lacks what the answer needs."""
    is_posted_transaction = outcome.code is None and isinstance(command, PostTransaction)
    return outcome.replayed and (is_posted_transaction or outcome.code in DETAILED)


async def _look_up(write: Write, command: Command | MixCreate) -> RecordedOutcome | None:
    """The outcome, if the journal has it; None also when the database does not answer."""
    reader = Reader(write.caller.principal, write.caller.admin)
    try:
        return await write.state.outcomes.find(reader, command.id, LAST_LOOK_S)
    except DatabaseUnavailable as fault:
        log.warning("database.unavailable", operation_id=command.id, fault=str(fault))
        return None


def _recorded(
    state: AppState, command: Command | MixCreate, found: RecordedOutcome, *, is_replayed: bool, scale: int
) -> Submission:
    rejected = recorded_rejection(found.operation, command.fingerprint)
    return Submission(
        command,
        SubmissionStatus.POSTED if rejected is None else SubmissionStatus.REJECTED,
        transaction=found.transaction if rejected is None else None,
        rejected=rejected,
        is_replayed=_count(state, command, rejected, is_replayed=is_replayed),
        scale=scale,
    )


def _count(
    state: AppState, command: Command | MixCreate, rejected: RejectedOutcome | None, *, is_replayed: bool
) -> bool:
    """Counts an outcome. Returns whether the answer is that of an earlier request: other content is no repeat."""
    state.metrics.outcomes[kind_of(command), "posted" if rejected is None else rejected.code.value] += 1
    is_replayed = is_replayed and (rejected is None or rejected.code is not Rejection.IDEMPOTENCY_KEY_REUSED)
    if is_replayed:
        state.metrics.replays.inc()
    return is_replayed


def _undecided(state: AppState, command: Command | MixCreate, *, is_unknown: bool) -> Submission:
    (state.metrics.unknown if is_unknown else state.metrics.undecided).inc()
    return Submission(command, SubmissionStatus.UNKNOWN if is_unknown else SubmissionStatus.PENDING)
