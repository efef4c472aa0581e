"""Dead letters: messages that no service could process, until an operator decides.

To look takes every message unacknowledged and gives all back, in order, by closing the channel. A retry publishes with
a confirm before it acknowledges: an operator who is cut off in between leaves the message twice, never not at all. A
repeat has no effect, since commands carry their ids.
"""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final, cast

from shared.broker.channels import Channel, IncomingMessage, OutgoingMessage, open_channel, publish
from shared.broker.connection import connect
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
        """As JSON shows it, the body only if `whole`."""
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
    """One look at the queue. What is not acknowledged when it ends stays where it was."""

    def __init__(self, channel: Channel, confirmed: Channel) -> None:
        self._channel = channel
        self._confirmed = confirmed

    async def messages(self) -> list[DeadLetter]:
        """Those that are in the queue now, oldest first; one that comes meanwhile is left alone."""
        waiting = (await self._channel.queue_declare(topology.DEAD_LETTERS_QUEUE, passive=True)).message_count or 0
        found: list[DeadLetter] = []
        while len(found) < waiting:
            message = await self._channel.basic_get(topology.DEAD_LETTERS_QUEUE, no_ack=False)
            if message.delivery_tag is None:
                break
            found.append(read_dead_letter(message))
        return found

    async def find(self, wanted: str) -> DeadLetter:
        """The one message whose id begins so. Raises DeadLetterError."""
        matching = [message for message in await self.messages() if message.id.startswith(wanted)]
        if len(wanted) < ID_LENGTH_MIN or len(matching) != 1:
            raise DeadLetterError(f"{len(matching)} dead letters have an id that begins with {wanted!r}")
        return matching[0]

    async def retry(self, message: DeadLetter) -> None:
        """Sends it back and takes it out. Raises DeadLetterError or PublishFailed, and then it is still there."""
        if not message.exchange:
            raise DeadLetterError(f"{message.id} does not say where it came from")
        await publish(self._confirmed, message.outgoing())
        await self._channel.basic_ack(message.tag)

    async def drop(self, message: DeadLetter) -> None:
        """Takes it out for good."""
        await self._channel.basic_ack(message.tag)


@asynccontextmanager
async def dead_letter_queue(amqp_url: str) -> AsyncGenerator[DeadLetterQueue]:
    """Raises what is in BROKER_FAULTS."""
    connection = await connect(amqp_url, name="tellerline dead-letters")
    try:
        channel = await open_channel(connection, confirmed=False)
        yield DeadLetterQueue(channel, await open_channel(connection, confirmed=True))
        # The broker answers to this, so every acknowledgement sent before it has arrived.
        await channel.close()
    finally:
        await connection.close()


def read_dead_letter(message: IncomingMessage) -> DeadLetter:
    """What a message says of itself; one that the broker set aside tells less than one that a service did."""
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
