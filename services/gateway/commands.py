"""The road of every write: a command goes to its partition, its outcome comes back, or the client learns where to ask.

What was decided is answered alike whether the reply told it or the journal: handlers make the body from the same facts.
"""

import asyncio
import re
import zlib
from typing import Final, NotRequired

import structlog
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from services.gateway.context import Gateway
from services.gateway.problems import Fault, Refusal, invalid
from services.gateway.rejections import field_errors, recorded_refusal, recorded_rejection, told_refusal
from services.gateway.routes import Call
from services.gateway.store.operations import read_operation
from services.gateway.web.answers import Answer
from shared.amqp import BusError, NotSent, Refused, SendUnknown, Unroutable
from shared.ids import CommandId, Partition
from shared.messages import Command, MixCreate, OperationCancel, OperationRefuse, Outcome, RefusedKind, Settled
from shared.messages import FieldError as MessageFieldError
from shared.rejections import Rejection
from shared.sending import Answer as LedgerAnswer
from shared.sending import Sent
from shared.values import value

log = structlog.get_logger()

WAIT_S_DEFAULT: Final = 5.0
WAIT_S_MAX: Final = 30
# Who has waited in vain does not wait as long again for a database that hangs.
LAST_LOOK_S: Final = 1.0
WAIT: Final = re.compile(r"wait\s*=\s*\"?([0-9]{1,9})\"?", re.ASCII)
KEY: Final = re.compile(r"[\x20-\x7e]{1,255}", re.ASCII)
# A stop of the gateway outlasts shorter waits; it ends longer ones.
WAIT_S_LONG: Final = 5.0
# Refusals of which a replay carries less than the first outcome did.
DETAILED: Final = frozenset({Rejection.INSUFFICIENT_FUNDS, Rejection.ADDRESS_REFUSED, Rejection.LIMIT_EXCEEDED})


class AcceptedBody(TypedDict):
    """A write without an outcome yet: ask the operation."""

    id: str
    kind: NotRequired[str | None]
    status: str
    links: dict[str, str]


ACCEPTED: TypeAdapter[AcceptedBody] = TypeAdapter(AcceptedBody)


@value
class Identity:
    """What makes a command itself. `repeat`: its key was seen here before."""

    id: CommandId
    repeat: bool
    has_key: bool


def identify(call: Call) -> Identity:
    """The command's id: from the caller and the Idempotency-Key, else fresh. Raises Refusal."""
    keys = call.request.headers.getall("Idempotency-Key", [])
    gateway = call.gateway
    if not keys:
        return Identity(gateway.ids.fresh(call.caller.principal), repeat=False, has_key=False)
    if len(keys) > 1 or not KEY.fullmatch(keys[0]):
        raise invalid("Idempotency-Key", "one key of 1 to 255 printable ASCII characters")
    command = gateway.ids.of_key(call.caller.principal, keys[0])
    return Identity(command, gateway.recent.note(command), has_key=True)


def wait_s(call: Call) -> float:
    """Seconds to wait for the outcome, from `Prefer`: the first that says so. What is not understood there is ignored.

    RFC 7240 §2.
    """
    preferences = call.request.headers.getall("Prefer", None)
    if preferences is None:
        return WAIT_S_DEFAULT
    wanted: float | None = None
    for preference in ",".join(preferences).split(","):
        choice = preference.split(";")[0].strip().lower()
        if choice == "respond-async":
            return 0.0
        match = WAIT.fullmatch(choice)
        if match and wanted is None:
            wanted = float(min(int(match[1]), WAIT_S_MAX))
    return WAIT_S_DEFAULT if wanted is None else wanted


@value
class Posted:
    """A posted command. `outcome` None: its facts are to be read in the journal."""

    id: CommandId
    outcome: Outcome | None
    settled: tuple[Settled, ...]
    replayed: bool

    def answer(self, status: int, body: bytes = b"") -> Answer:
        """The answer of a write with an outcome."""
        return Answer(status, body, _headers(self.id, replayed=self.replayed))


async def submit(
    call: Call, command: Command | MixCreate, partition: Partition | None, *, scale: int = 0, repeat: bool = False
) -> Posted | Answer:
    """Sends the command and waits. Posted, or the answer 202. `scale` is that of amounts in refusals.

    `repeat`: its key was seen before, as the command itself says unless it is an order for the mixer.

    Without a partition it is an order for the mixer. Raises DatabaseUnavailable, or Refusal: rejected, 503 where it had
    no effect, 504 where that is not known.
    """
    gateway, seconds = call.gateway, wait_s(call)
    sent, answer, unknown = await _send(call, command, partition, seconds)
    outcome = None if answer is None else answer.outcome
    is_repeat = repeat if isinstance(command, MixCreate) else command.repeat
    replayed = sent.command is not command or (is_repeat if outcome is None else outcome.replayed)
    kind = kind_of(command) or "cancel"
    if outcome is None or (outcome.replayed and outcome.code in DETAILED):
        recorded = None
        if seconds or is_repeat:
            recorded = await read_operation(gateway.database, command.id, within_s=LAST_LOOK_S)
        if recorded is None or recorded.outcome == "started":
            return _undecided(call, command, unknown)
        gateway.metrics.resolved.inc()
        refusal = recorded_refusal(recorded, command.fingerprint, scale)
    else:
        refusal = told_refusal(outcome, scale)
        if isinstance(command, OperationRefuse) and refusal is not None and refusal.code is command.code:
            refusal.errors = field_errors(command.errors)
    gateway.metrics.outcomes[kind, "posted" if refusal is None else refusal.code.value] += 1
    if replayed:
        gateway.metrics.replays.inc()
    if refusal is not None:
        is_reused = refusal.code is Rejection.IDEMPOTENCY_KEY_REUSED
        refusal.headers = _headers(command.id, replayed=replayed and not is_reused)
        raise refusal
    if answer is None or outcome is None or outcome.replayed or not answer.is_settled:
        return Posted(command.id, None, (), replayed)
    return Posted(command.id, outcome, answer.settled, replayed)


async def refuse(call: Call, identity: Identity, kind: RefusedKind, content: str, refusal: Refusal) -> Answer:
    """Ends a command that cannot be made. Always raises, or answers 202.

    What the ledger could have refused is written down by it, so that a repeat hears the same, whatever has become of
    the reason; `refusal` itself is raised for what never is a command (400), and where nobody can repeat it, for want
    of a key. `content` is the fingerprint.
    """
    if not identity.has_key:
        raise refusal
    if not isinstance(refusal.code, Rejection):
        await _replay_refusal(call, identity.id, content)
        raise refusal
    command = OperationRefuse(
        id=identity.id,
        repeat=identity.repeat,
        principal=call.caller.principal,
        fingerprint=content,
        of=kind,
        code=refusal.code,
        errors=tuple(MessageFieldError(**error) for error in refusal.errors),
    )
    posted = await submit(call, command, anywhere(command.id, call.gateway.partitions))
    # Posted: the same request came meanwhile when the reason was gone. Who asks the operation hears of that.
    return posted if isinstance(posted, Answer) else accepted(command)


async def _replay_refusal(call: Call, command: CommandId, content: str) -> None:
    """Raises the refusal that the journal holds for this content, if it does."""
    recorded = await read_operation(call.gateway.database, command)
    if recorded is not None and recorded.outcome == "rejected" and recorded.holds(content):
        refusal = recorded_rejection(recorded, 0)
        refusal.headers = _headers(command, replayed=True)
        raise refusal


def anywhere(command: CommandId, partitions: int) -> Partition:
    """A partition for a command of no account: its outcome's primary key arbitrates, wherever it is written."""
    return Partition(zlib.crc32(command.encode()) % partitions)


async def _send(
    call: Call, command: Command | MixCreate, partition: Partition | None, seconds: float
) -> tuple[Sent, LedgerAnswer | None, BusError | None]:
    """What was sent and what is known of it; at the end, why nobody knows whether it arrived. Raises Refusal, 503."""
    ledger = call.gateway.ledger
    try:
        if isinstance(command, MixCreate):
            sent = ledger.send_order(command)
        elif partition is not None:
            sent = ledger.send(command, partition)
        else:
            raise ValueError("a command of the ledger goes to a partition")
        call.sent = command
        try:
            answer = await wait_for(call.gateway, sent, seconds)
        except SendUnknown as fault:
            return sent, None, fault
        return sent, answer, sent.fault if answer is None else None
    except (NotSent, Unroutable) as fault:
        log.warning("command.not_sent", operation_id=command.id, partition=partition, fault=repr(fault))
        detail = "the message broker does not take commands"
        raise Refusal(Fault.UNAVAILABLE, detail, headers={"Retry-After": "1"}) from fault
    except Refused as fault:
        raise Refusal(Fault.OVERLOADED, "too many commands wait", headers={"Retry-After": "1"}) from fault


def _undecided(call: Call, command: Command | MixCreate, unknown: BusError | None) -> Answer:
    """202, or the Refusal 504 if not even the broker is known to have it."""
    metrics = call.gateway.metrics
    if unknown is None:
        metrics.undecided.inc()
        return accepted(command)
    metrics.unknown.inc()
    location = location_of(command)
    log.warning("command.unknown", operation_id=command.id, fault=repr(unknown))
    raise Refusal(
        Fault.OUTCOME_UNKNOWN,
        "the command may or may not take effect: ask the operation, or repeat with the same key",
        headers={"Operation-Id": command.id, "Location": location},
        links={"operation": location, "cancel": cancel_link(command.id)},
    ) from unknown


async def wait_for(gateway: Gateway, sent: Sent, seconds: float) -> LedgerAnswer | None:
    """The answer within so many seconds. A stop of the gateway ends a long wait. Raises BusError."""
    if gateway.stopping.begun:
        seconds = min(seconds, 1.0)
    if seconds <= WAIT_S_LONG:
        return await gateway.ledger.answer(sent, seconds)
    waits = gateway.stopping.waits
    try:
        async with asyncio.timeout(seconds) as wait:
            waits.add(wait)
            try:
                return await gateway.ledger.answer(sent, seconds + 1.0)
            finally:
                waits.discard(wait)
    except TimeoutError:
        return None if sent.outcome is None else LedgerAnswer(sent.outcome, tuple(sent.settled))


def accepted(command: Command | MixCreate) -> Answer:
    """202: no outcome yet, or none that we can read now."""
    location = location_of(command)
    body = ACCEPTED.dump_json(
        {
            "id": command.id,
            "kind": kind_of(command),
            "status": "pending",
            "links": {"self": location, "cancel": cancel_link(command.id)},
        }
    )
    return Answer(202, body, {"Operation-Id": command.id, "Location": location})


def kind_of(command: Command | MixCreate) -> str | None:
    """The kind as clients see it; None for a cancel, which may be of anything."""
    if isinstance(command, OperationCancel):
        return None
    return (command.of if isinstance(command, OperationRefuse) else command.kind).removesuffix(".v1")


def location_of(command: Command | MixCreate) -> str:
    """Where the operation is asked for, bound to the content that was sent. A cancel binds to none."""
    path = f"/v1/operations/{command.id}"
    return path if isinstance(command, OperationCancel) else f"{path}?of={command.fingerprint}"


def cancel_link(command: CommandId) -> str:
    """Where an unknown is ended."""
    return f"/v1/operations/{command}/cancel"


def _headers(command: CommandId, *, replayed: bool) -> dict[str, str]:
    return {"Operation-Id": command, "Idempotency-Replayed": "true"} if replayed else {"Operation-Id": command}
