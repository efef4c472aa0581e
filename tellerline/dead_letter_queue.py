"""Dead letters: messages that no service could process, until an operator decides.

Messages are read without acknowledging them; closing the channel puts all of them back in order. A retry publishes with
a confirm before it acknowledges: if it is interrupted in between, the message exists twice, but is never lost. The
repeat has no effect, since commands carry their ids.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, cast

from shared.broker.channels import Channel, IncomingMessage, OutgoingMessage, publish
from shared.broker.dead_letters import (
    EXCHANGE_HEADER,
    ID_HEADER,
    KEY_HEADER,
    REASON_HEADER,
    RETRIES_HEADER,
    SINCE_HEADER,
    headers_of_message,
)
from shared.domain.values import value
from shared.messages import topology

ID_LENGTH_MIN: Final = 6


class DeadLetterError(Exception):
    """No dead letter, or more than one, has that id; or it does not say where it came from."""


@value
class DeadLetter:
    """One message. `exchange` and `key` are where it came from; `tag` acknowledges it on its channel."""

    id: str
    reason: str
    since: datetime | None
    exchange: str
    key: str
    kind: str
    retries: int
    headers: Mapping[str, str | int]
    reply_to: str | None
    correlation_id: str | None
    body: bytes
    tag: int

    def shown(self, *, whole: bool) -> dict[str, object]:
        """Its fields for JSON output; headers, `reply_to` and body only if `whole`."""
        seen: dict[str, object] = {
            "id": self.id, "reason": self.reason, "since": self.since and self.since.isoformat(),
            "exchange": self.exchange, "key": self.key, "kind": self.kind, "bytes": len(self.body),
            "retries": self.retries,
        }  # fmt: skip
        if whole:
            seen |= {"headers": dict(self.headers), "reply_to": self.reply_to, "body": _readable(self.body)}
        return seen

    def outgoing(self) -> OutgoingMessage:
        """The message as it goes back to where it came from."""
        return OutgoingMessage(
            self.exchange, self.key, self.body, self.kind, reply_to=self.reply_to, correlation_id=self.correlation_id,
            headers={**self.headers, RETRIES_HEADER: self.retries + 1},
        )  # fmt: skip


class DeadLetterQueue:
    """Reads the queue on `channel`, which puts back what is not acknowledged when it closes; retries on `confirmed`."""

    def __init__(self, channel: Channel, confirmed: Channel) -> None:
        self._channel = channel
        self._confirmed = confirmed

    async def messages(self) -> list[DeadLetter]:
        """The messages that are in the queue now, oldest first. It does not wait for more."""
        waiting = (await self._channel.queue_declare(topology.DEAD_LETTERS_QUEUE, passive=True)).message_count or 0
        found: list[DeadLetter] = []
        while len(found) < waiting:
            message = await self._channel.basic_get(topology.DEAD_LETTERS_QUEUE, no_ack=False)
            if message.delivery_tag is None:
                break
            found.append(read_dead_letter(message))
        return found

    async def find(self, wanted: str) -> DeadLetter:
        """The only message whose id begins with `wanted` (ID_LENGTH_MIN characters or more). Raises DeadLetterError."""
        if len(wanted) < ID_LENGTH_MIN:
            raise DeadLetterError(f"{wanted!r} is too short: at least {ID_LENGTH_MIN} characters of the id are needed")
        matching = [message for message in await self.messages() if message.id.startswith(wanted)]
        if len(matching) != 1:
            raise DeadLetterError(f"{len(matching)} dead letters have an id that begins with {wanted!r}")
        return matching[0]

    async def retry(self, message: DeadLetter) -> None:
        """Publishes it to where it came from, then removes it. Raises DeadLetterError or PublishFailed: it stays."""
        if not message.exchange:
            raise DeadLetterError(f"{message.id} does not say where it came from")
        await publish(self._confirmed, message.outgoing())
        await self._channel.basic_ack(message.tag)

    async def drop(self, message: DeadLetter) -> None:
        """Removes it from the queue for good."""
        await self._channel.basic_ack(message.tag)


def read_dead_letter(message: IncomingMessage) -> DeadLetter:
    """The dead letter in a message: from the headers that a service adds, else from the broker's `x-death`."""
    properties = message.header.properties
    headers = cast("Mapping[str, object]", properties.headers or {})
    death = _last_death(headers)
    keys = cast("Sequence[str]", death.get("routing-keys") or [""])
    retries = headers.get(RETRIES_HEADER)
    return DeadLetter(
        id=str(headers.get(ID_HEADER) or properties.message_id or ""),
        reason=str(headers.get(REASON_HEADER) or death.get("reason") or "unknown"),
        since=_instant(headers.get(SINCE_HEADER, death.get("time"))),
        exchange=str(headers.get(EXCHANGE_HEADER) or death.get("exchange") or ""),
        key=str(headers.get(KEY_HEADER) or keys[0]),
        kind=properties.message_type or "",
        retries=retries if isinstance(retries, int) else 0,
        headers=headers_of_message(headers),
        reply_to=properties.reply_to,
        correlation_id=properties.correlation_id,
        body=message.body,
        tag=message.delivery_tag or 0,
    )


def _last_death(headers: Mapping[str, object]) -> Mapping[str, object]:
    deaths = headers.get("x-death")
    if isinstance(deaths, list) and deaths:
        return cast("Mapping[str, object]", deaths[0])
    return {}


def _instant(field: object) -> datetime | None:
    """A service writes seconds since 1970 UTC, the broker a timestamp."""
    if isinstance(field, int):
        return datetime.fromtimestamp(field, UTC)
    return field if isinstance(field, datetime) else None


def _readable(body: bytes) -> object:
    text = body.decode("utf-8", "backslashreplace")
    try:
        return json.loads(text)
    except ValueError:
        return text
