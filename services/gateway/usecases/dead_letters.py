"""Dead letters: an operator sends each back to where it came from, or ends it. The journal says who, when and why."""

import asyncio
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias, cast

from services.gateway.store.dead_letters import DeadLetter
from services.gateway.store.operations import CommandOutcome, read_operation, read_outcomes
from services.gateway.usecases.decisions import record_decision
from services.gateway.usecases.faults import CommandNotSent, NotAllowed, NotFound
from services.gateway.usecases.state import AppState
from services.gateway.usecases.submit import Submission, SubmissionStatus, Write
from shared.broker.channels import BROKER_FAULTS, PublishFailed
from shared.domain.ids import UUID_TEXT, CommandId
from shared.domain.values import value

DeadLetterVerb: TypeAlias = Literal["retry", "resolve"]

FAULTS: Final = (*BROKER_FAULTS, PublishFailed)
NOT_SHOWN: Final = "the message broker does not show dead letters"
POLL_S: Final = 0.1
# The journal keeps so much of a message; the rest would make a command too large.
COMMANDS_KEPT_MAX: Final = 200
TEXT_CHARACTERS_MAX: Final = 300


@value
class EndedDeadLetter:
    """A decision as the journal holds it. `facts`: what the message was; `outcomes`: of the commands in it."""

    id: str
    decision: DeadLetterVerb
    why: str | None
    facts: Mapping[str, object]
    commands: Sequence[str]
    outcomes: Mapping[str, CommandOutcome]
    recorded_at_us: int


async def dead_letters(state: AppState, after: tuple[int, str], limit: int) -> Sequence[DeadLetter]:
    """Dead letters after this place, oldest first, without their bodies. Raises CommandNotSent."""
    try:
        return await state.dead_letters.page(after, limit)
    except FAULTS as fault:
        raise CommandNotSent(NOT_SHOWN) from fault


async def dead_letter(state: AppState, identity: str) -> DeadLetter:
    """One dead letter. Raises NotFound or CommandNotSent."""
    try:
        async with state.dead_letters.held(identity) as held:
            if held is None:
                raise NotFound("dead letter")
            return held.letter
    except FAULTS as fault:
        raise CommandNotSent(NOT_SHOWN) from fault


async def end_dead_letter(write: Write, decision: DeadLetterVerb, identity: str, why: str | None) -> Submission:
    """Writes the decision to the journal, then sends the message back (`retry`) or removes it (`resolve`).

    If it is interrupted in between, the message stays, and the same request again finishes it. Raises NotFound,
    NotAllowed for a message that cannot be sent back, CommandNotSent, TooManyCommands, DatabaseUnavailable.
    """
    try:
        async with write.state.dead_letters.held(identity) as held:
            submission = await _decide(write, decision, identity, why, held and held.letter)
            if held is not None and submission.status is SubmissionStatus.POSTED:
                await held.end(send_back=decision == "retry")
    except FAULTS as fault:
        raise CommandNotSent(f"the broker did not give or take it, so it is still a dead letter: {fault!r}") from fault
    return submission


async def _decide(
    write: Write, decision: DeadLetterVerb, identity: str, why: str | None, letter: DeadLetter | None
) -> Submission:
    """Writes the decision, or finds it if it was written before; without a message only the latter."""
    if letter is None and not (write.has_key and await read_operation(write.state.database, write.id)):
        raise NotFound("dead letter")
    if letter is not None and decision == "retry" and not letter.exchange:
        raise NotAllowed(f"{identity} does not say where it came from, so it cannot go back")
    facts = {} if letter is None else _facts(letter)
    kind = "dead_letter.retry.v1" if decision == "retry" else "dead_letter.resolve.v1"
    return await record_decision(write, kind, identity, {"why": why, **facts})


async def ended_dead_letter(state: AppState, operation: CommandId, wait_s: float) -> EndedDeadLetter:
    """What became of a dead letter, by the decision's operation. Raises NotFound or DatabaseUnavailable.

    After a retry it waits up to `wait_s` seconds for the outcomes of its commands.
    """
    recorded = await read_operation(state.database, operation)
    if recorded is None or recorded.metadata is None:
        raise NotFound("decision")
    facts = cast("dict[str, object]", json.loads(recorded.metadata))
    commands = cast("Sequence[str]", facts.pop("commands", []))
    decision: DeadLetterVerb = "retry" if recorded.kind == "dead_letter.retry.v1" else "resolve"
    until_s = time.monotonic() + (wait_s if decision == "retry" else 0)
    while True:
        outcomes = await read_outcomes(state.database, commands)
        if len(outcomes) == len(set(commands)) or time.monotonic() >= until_s or state.stopping.has_begun:
            break
        await asyncio.sleep(POLL_S)
    why = cast("str | None", facts.pop("why"))
    return EndedDeadLetter(str(recorded.reference), decision, why, facts, commands, outcomes, recorded.recorded_at_us)


def command_ids(body: bytes) -> list[str]:
    """The ids of the commands in an envelope, or of the order in a mixer's message; none if it cannot be read."""
    try:
        message = cast("Mapping[str, object]", json.loads(body))
        commands = cast("Sequence[Mapping[str, object]]", message.get("commands") or [message.get("order") or {}])
        ids = [str(command.get("id")) for command in commands]
    except (ValueError, AttributeError, TypeError):
        return []
    return [identity for identity in ids if UUID_TEXT.fullmatch(identity)]


def _facts(letter: DeadLetter) -> dict[str, object]:
    """What the journal keeps of a message: enough to know it again, and which commands it held."""
    return {
        "reason": letter.reason[:TEXT_CHARACTERS_MAX],
        "exchange": letter.exchange[:TEXT_CHARACTERS_MAX],
        "key": letter.key[:TEXT_CHARACTERS_MAX],
        "kind": letter.kind[:TEXT_CHARACTERS_MAX],
        "bytes": letter.size,
        "retries": letter.retries,
        "sha256": hashlib.sha256(letter.body).hexdigest(),
        "commands": command_ids(letter.body)[:COMMANDS_KEPT_MAX],
    }
