"""A careful client: sends each command under one key until its outcome is known, and keeps what it was told."""

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, cast

import aiohttp

from shared.domain.values import value

ANSWER_MAX_S: Final = 15.0
RETRY_S: Final = (0.05, 0.4)
NO_ANSWER: Final = 0
NOT_SENT: Final = frozenset({429, 503})  # it had no effect; the same request may be sent again
UNKNOWN: Final = frozenset({NO_ANSWER, 202, 502, 504})
SUCCESS_MAX: Final = 299


class Ended(StrEnum):
    """How the outcome of a command became known."""

    AT_ONCE = "answered"
    REPEATED = "repeated"
    ASKED = "asked"
    CANCELLED = "cancelled"


@value
class Answer:
    """Status 0 means that nothing came back."""

    status: int
    body: Mapping[str, object]
    operation: str = ""


@dataclass(slots=True)
class Command:
    """One write. `code` is "" once it is posted, the rejection's code once it is refused, None before."""

    name: str
    method: str
    path: str
    body: Mapping[str, object]
    key: str
    operation: str = ""
    code: str | None = None
    was_unknown: bool = False
    ended: Ended = Ended.AT_ONCE
    answer: Mapping[str, object] = field(default_factory=dict[str, object])

    @property
    def posted(self) -> bool:
        """Whether it took effect, as far as the client was told."""
        return self.code == ""


class Client:
    """Speaks to all gateways of a stack. What was told for good stands in `decided`."""

    def __init__(self, session: aiohttp.ClientSession, gateways: Sequence[str], lots: random.Random) -> None:
        self._session = session
        self._gateways = gateways
        self._lots = lots
        self.decided: list[Command] = []
        self.open: dict[str, Command] = {}
        self.not_sent = 0
        self.repeats = 0
        # Repeats that were answered otherwise than the first time.
        self.unlike: list[str] = []

    async def decide(self, command: Command) -> Command:
        """Sends it until its outcome is known, by repeating, asking or cancelling."""
        self.open[command.key] = command
        answer = await self._send(command)
        while not self._has_outcome(command, answer):
            await asyncio.sleep(self._lots.uniform(*RETRY_S))
            answer = await self._next_try(command)
        del self.open[command.key]
        self.decided.append(command)
        return command

    async def repeat(self, command: Command) -> Command:
        """Sends a decided command again, which must be answered as the first time; returns it with that answer."""
        again = Command(command.name, command.method, command.path, command.body, command.key)
        self.open[again.key] = again
        answer = await self._send(again)
        while not self._has_outcome(again, answer):
            await asyncio.sleep(self._lots.uniform(*RETRY_S))
            answer = await self._send(again)
        del self.open[again.key]
        self.repeats += 1
        if (again.code, again.operation) != (command.code, command.operation):
            self.unlike.append(
                f"{command.key}: {command.code!r} {command.operation}, then {again.code!r} {again.operation}"
            )
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
        if answer.status in UNKNOWN or answer.body.get("code") == "server_error":
            command.was_unknown = True
            return False
        command.answer = answer.body
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
                return Answer(answer.status, cast("Mapping[str, object]", json.loads(text or "{}")), operation)
        except aiohttp.ClientConnectorError:
            return Answer(503, {})  # refused: nothing was sent
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return Answer(NO_ANSWER, {})


def _outcome_of_operation(answer: Answer) -> Answer:
    """The answer that the command itself would have got; an undecided one as long as the operation is pending."""
    match answer.body.get("status"):
        case "posted":
            return Answer(201, answer.body, answer.operation)
        case "rejected":
            return Answer(422, answer.body, answer.operation)
        case _:
            return Answer(NO_ANSWER if answer.status not in NOT_SENT else answer.status, {})
