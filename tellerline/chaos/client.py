"""A careful client: sends each command under one key until its outcome is known, and keeps what it was told."""

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, cast

import aiohttp

from shared.domain.values import value

ANSWER_MAX_S: Final = 15.0
RETRY_S: Final = (0.05, 0.4)
NO_ANSWER: Final = 0
NOT_SENT: Final = frozenset({429, 503})  # it had no effect; the same request may be sent again
UNKNOWN: Final = frozenset({NO_ANSWER, 202, 500, 502, 504})
BROKEN: Final = 500  # no fault from outside may cause it
SUCCESS_MAX: Final = 299
# What a repeat reads anew, and the id of the request itself.
READ_ANEW: Final = frozenset({"settled", "reversed_by", "links", "request_id"})


class Ended(StrEnum):
    """How the outcome of a command became known."""

    AT_ONCE = "answered"
    REPEATED = "repeated"
    ASKED = "asked"
    CANCELLED = "cancelled"


@value
class Answer:
    """Status 0 means that nothing came back. `tells_write` is False for the answer to a question about a write."""

    status: int
    body: Mapping[str, object]
    operation: str = ""
    tells_write: bool = True


@dataclass(slots=True, eq=False)
class Command:
    """One write. `code` is "" once it is posted, the rejection's code once it is refused, None before.

    `answer`: to the write itself; None as long as its outcome is known from its operation alone.
    """

    name: str
    method: str
    path: str
    body: Mapping[str, object]
    key: str
    operation: str = ""
    code: str | None = None
    was_unknown: bool = False
    ended: Ended = Ended.AT_ONCE
    answer: Answer | None = None

    @property
    def posted(self) -> bool:
        """Whether it took effect, as far as the client was told."""
        return self.code == ""

    def again(self) -> "Command":
        """The same command, to be sent once more."""
        return Command(self.name, self.method, self.path, self.body, self.key)


class Client:
    """Speaks to all gateways of a stack. What was told for good stands in `decided`."""

    def __init__(self, session: aiohttp.ClientSession, gateways: Sequence[str], lots: random.Random) -> None:
        self._session = session
        self._gateways = gateways
        self._lots = lots
        self.decided: list[Command] = []
        self.open: set[Command] = set()
        self.not_sent = 0
        self.repeats = 0
        # Repeats that were answered otherwise than the first time, and answers that say the gateway itself broke.
        self.unlike: list[str] = []
        self.broken: list[str] = []

    async def decide(self, command: Command) -> Command:
        """Sends it until its outcome is known, by repeating, asking or cancelling."""
        self.open.add(command)
        answer = await self._send(command)
        while not self._has_outcome(command, answer):
            await asyncio.sleep(self._lots.uniform(*RETRY_S))
            answer = await self._next_try(command)
        self.open.remove(command)
        self.decided.append(command)
        return command

    async def repeat(self, command: Command) -> Command:
        """Sends a decided command again, which must be answered as the first time; returns it with that answer."""
        again = command.again()
        self.open.add(again)
        answer = await self._send(again)
        while not self._has_outcome(again, answer):
            await asyncio.sleep(self._lots.uniform(*RETRY_S))
            answer = await self._send(again)
        self.open.remove(again)
        self.repeats += 1
        if differs := difference(command, again):
            self.unlike.append(f"{command.name} {command.key}: {differs}")
        command.answer = command.answer or again.answer
        return again

    async def get(self, path: str) -> Answer:
        """Reads from any gateway."""
        return await self._request("GET", path, None, {})

    async def _next_try(self, command: Command) -> Answer:
        if not command.was_unknown or not command.operation:
            command.ended = Ended.REPEATED if command.was_unknown else Ended.AT_ONCE
            return await self._send(command)
        command.ended = self._lots.choice((Ended.REPEATED, Ended.ASKED, Ended.CANCELLED))
        match command.ended:
            case Ended.ASKED:
                answer = await self._request("GET", f"/v1/operations/{command.operation}?wait=5", None, {})
            case Ended.CANCELLED:
                answer = await self._request("POST", f"/v1/operations/{command.operation}/cancel", {}, {})
            case _:
                return await self._send(command)
        return _outcome_of_operation(answer)

    async def _send(self, command: Command) -> Answer:
        return await self._request(
            command.method, command.path, command.body, {"Idempotency-Key": command.key, "Prefer": "wait=5"}
        )

    def _has_outcome(self, command: Command, answer: Answer) -> bool:
        command.operation = command.operation or answer.operation
        if answer.status in NOT_SENT:
            self.not_sent += 1
            return False
        if answer.status in UNKNOWN and answer.body.get("code") != "internal_error":
            command.was_unknown = True
            return False
        command.answer = answer if answer.tells_write else None
        command.code = "" if answer.status <= SUCCESS_MAX else str(answer.body.get("code", answer.status))
        return True

    async def _request(
        self, method: str, path: str, body: Mapping[str, object] | None, headers: Mapping[str, str]
    ) -> Answer:
        url = self._lots.choice(self._gateways) + path
        timeout = aiohttp.ClientTimeout(total=ANSWER_MAX_S)
        try:
            async with self._session.request(
                method, url, json=body or None, headers=headers, timeout=timeout
            ) as answer:
                text = await answer.text()
                operation = answer.headers.get("Operation-Id", "")
                if answer.status == BROKEN:
                    self.broken.append(f"{method} {path}: {text}")
                return Answer(answer.status, cast("Mapping[str, object]", json.loads(text or "{}")), operation)
        except aiohttp.ClientConnectorError:
            return Answer(503, {})  # refused: nothing was sent
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return Answer(NO_ANSWER, {})


def _outcome_of_operation(answer: Answer) -> Answer:
    """The answer that the command itself would have got; an undecided one as long as the operation is pending."""
    match answer.body.get("status"):
        case "posted":
            return Answer(201, answer.body, answer.operation, tells_write=False)
        case "rejected":
            return Answer(422, answer.body, answer.operation, tells_write=False)
        case _:
            return Answer(NO_ANSWER if answer.status not in NOT_SENT else answer.status, {})


def difference(command: Command, again: Command) -> str:
    """How a repeat was answered otherwise than the first time; "" if it was not."""
    if (again.code, again.operation) != (command.code, command.operation):
        return f"{command.code!r} {command.operation}, then {again.code!r} {again.operation}"
    first, second = command.answer, again.answer
    if first is None or second is None:
        return ""
    if first.status != second.status:
        return f"{first.status}, then {second.status}"
    for name in sorted((first.body.keys() | second.body.keys()) - READ_ANEW):
        if (told := first.body.get(name)) != (then := second.body.get(name)):
            if name == "balances" and _is_part(told, then) and first.body.get("settled") is False:
                continue  # the balance of an account whose credit had not landed yet
            return f"{name} is {told!r}, then {then!r}"
    return ""


def _is_part(part: object, whole: object) -> bool:
    return isinstance(part, dict) and isinstance(whole, dict) and part.items() <= whole.items()
