"""The parking queue: messages that no service could process, until an operator decides (facts: RabbitMQ, §5).

Looking takes every message unacknowledged and gives all back, in order, by closing the channel. Replaying publishes
with a confirm before it acknowledges: whoever is killed in between leaves the message twice, never not at all, and a
repeat has no effect, since its commands carry their ids.
"""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

from shared import amqp, topology
from shared.amqp import Outgoing

REPLAY_HEADER: Final = "x-replay"
ID_LENGTH_MIN: Final = 6
# Headers of the parking itself; everything else belongs to the message and goes back with it.
_OURS: Final = (
    "x-parked-",
    "x-original-",
    "x-death",
    "x-first-death-",
    "x-last-death-",
    "x-delivery-count",
    "x-acquired-count",
)
_UNROUTED: Final = ""


class NotParked(Exception):
    """No message in the queue, or more than one, has that id."""


@dataclass(frozen=True, slots=True)
class Parked:
    """One parked message. `exchange` and `key` are where it came from; `tag` acknowledges it on its channel."""

    id: str
    reason: str
    parked_at: datetime | None
    exchange: str
    key: str
    kind: str
    replays: int
    headers: Mapping[str, str | int]
    reply_to: str | None
    correlation_id: str | None
    body: bytes
    tag: int

    def shown(self, *, whole: bool) -> dict[str, object]:
        """As JSON shows it, the body only if `whole`."""
        seen: dict[str, object] = {
            "id": self.id, "reason": self.reason, "parked_at": self.parked_at and self.parked_at.isoformat(),
            "exchange": self.exchange, "key": self.key, "kind": self.kind, "bytes": len(self.body),
            "replays": self.replays,
        }  # fmt: skip
        if whole:
            seen |= {"headers": dict(self.headers), "reply_to": self.reply_to, "body": _readable(self.body)}
        return seen

    def outgoing(self) -> Outgoing:
        """The message as it goes back to where it came from."""
        return Outgoing(
            self.exchange, self.key, self.body, self.kind, reply_to=self.reply_to, correlation_id=self.correlation_id,
            headers={**self.headers, REPLAY_HEADER: self.replays + 1},
        )  # fmt: skip


class ParkingQueue:
    """One look at the queue. What is not acknowledged when it ends is parked as before."""

    def __init__(self, channel: amqp.Channel, confirmed: amqp.Channel) -> None:
        self._channel = channel
        self._confirmed = confirmed

    async def messages(self) -> list[Parked]:
        """Those that are in the queue now, oldest first; one that is parked meanwhile is left alone."""
        waiting = (await self._channel.queue_declare(topology.PARKING_QUEUE, passive=True)).message_count or 0
        found: list[Parked] = []
        while len(found) < waiting:
            message = await self._channel.basic_get(topology.PARKING_QUEUE, no_ack=False)
            if message.delivery_tag is None:
                break
            found.append(read(message))
        return found

    async def find(self, wanted: str) -> Parked:
        """The one message whose id begins so. Raises NotParked."""
        matching = [message for message in await self.messages() if message.id.startswith(wanted)]
        if len(wanted) < ID_LENGTH_MIN or len(matching) != 1:
            raise NotParked(f"{len(matching)} parked messages have an id that begins with {wanted!r}")
        return matching[0]

    async def replay(self, message: Parked) -> None:
        """Sends it back and takes it out. Raises BusError, and then it is still parked."""
        if message.exchange == _UNROUTED:
            raise NotParked(f"{message.id} does not say where it came from")
        await amqp.publish(self._confirmed, message.outgoing())
        await self._channel.basic_ack(message.tag)

    async def drop(self, message: Parked) -> None:
        """Takes it out for good."""
        await self._channel.basic_ack(message.tag)


@asynccontextmanager
async def parking_queue(amqp_url: str) -> AsyncGenerator[ParkingQueue]:
    """Raises what is in amqp.LINK_FAULTS."""
    connection = await amqp.connect(amqp_url, name="tellerline parking")
    try:
        channel = await amqp.open_channel(connection, confirmed=False)
        yield ParkingQueue(channel, await amqp.open_confirmed(connection))
        # A synchronous answer of the broker: every acknowledgement sent before it has arrived.
        await channel.close()
    finally:
        await connection.close()


def read(message: amqp.Delivery) -> Parked:
    """What a delivery says of itself; a message that the broker parked tells less than one that a worker did."""
    properties = message.header.properties
    headers = cast("Mapping[str, object]", properties.headers or {})
    death = _last_death(headers)
    at = headers.get("x-parked-at", death.get("time"))
    keys = cast("Sequence[str]", death.get("routing-keys") or [""])
    replays = headers.get(REPLAY_HEADER)
    return Parked(
        id=str(headers.get("x-parked-id") or properties.message_id or ""),
        reason=str(headers.get("x-parked-reason") or death.get("reason") or "unknown"),
        parked_at=datetime.fromtimestamp(at, UTC) if isinstance(at, int) else at if isinstance(at, datetime) else None,
        exchange=str(headers.get("x-original-exchange") or death.get("exchange") or _UNROUTED),
        key=str(headers.get("x-original-key") or keys[0]),
        kind=properties.message_type or "",
        replays=replays if isinstance(replays, int) else 0,
        headers={
            name: value for name, value in headers.items()
            if isinstance(value, str | int) and not name.startswith(_OURS)
        },
        reply_to=properties.reply_to,
        correlation_id=properties.correlation_id,
        body=message.body,
        tag=message.delivery_tag or 0,
    )  # fmt: skip


def _last_death(headers: Mapping[str, object]) -> Mapping[str, object]:
    deaths = headers.get("x-death")
    if isinstance(deaths, list) and deaths:
        return cast("Mapping[str, object]", deaths[0])
    return {}


def _readable(body: bytes) -> object:
    text = body.decode("utf-8", "backslashreplace")
    try:
        return json.loads(text)
    except ValueError:
        return text
