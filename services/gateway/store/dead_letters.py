"""Dead letters: messages that no service could process, in their queue until an operator decides.

Each look has a connection of its own, which reads without acknowledging and then puts everything back, behind what it
did not read: the queue has no order to rely on. What one look holds, another does not see, so one at a time looks, of
all gateways: whoever has declared an exclusive queue. A message is sent back with a confirm before it is acknowledged:
after a crash in between it exists twice, which is harmless, since commands carry their ids.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, cast

from shared.broker.channels import (
    BROKER_FAULTS,
    Channel,
    Connection,
    IncomingMessage,
    OutgoingMessage,
    QueueLocked,
    cancelled_only_by_us,
    open_channel,
    publish,
)
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
from shared.broker.declare import DEAD_LETTER_QUEUE, declare_bound
from shared.domain.values import value
from shared.messages import topology

# For one look; as long it waits for those of other gateways before it.
LOOK_S_MAX: Final = 10.0
# The exclusive queue.
TURN: Final = "ledger.dead_letters.turn"
TURN_POLL_S: Final = 0.05
# In one look. What lies behind them shows once these are gone.
MESSAGES_MAX: Final = 5_000
ID_CHARACTERS_MAX: Final = 64


@value
class DeadLetter:
    """One message. `exchange` and `key` are where it came from, and empty if it does not say; `size` is in bytes.

    `tag` acknowledges it on the channel that has read it.
    """

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
    size: int
    tag: int

    @property
    def place(self) -> tuple[int, str]:
        """Where it stands in a list: since when it is a dead letter, in seconds since 1970 UTC, and its id."""
        return int(self.since.timestamp()) if self.since else 0, self.id

    def outgoing(self) -> OutgoingMessage:
        """The message as it goes back to where it came from."""
        return OutgoingMessage(
            self.exchange, self.key, self.body, self.kind, reply_to=self.reply_to, correlation_id=self.correlation_id,
            headers={**self.headers, RETRIES_HEADER: self.retries + 1},
        )  # fmt: skip


@value
class HeldDeadLetter:
    """One message while nobody else looks."""

    letter: DeadLetter
    channel: Channel

    async def end(self, *, send_back: bool) -> None:
        """Removes the message; with `send_back` once it is where it came from.

        Raises PublishFailed or what is in BROKER_FAULTS: then it stays.
        """
        if send_back:
            await publish(await open_channel(self.channel.connection, confirmed=True), self.letter.outgoing())
        await self.channel.basic_ack(self.letter.tag)


class DeadLetterQueue:
    """The queue of dead letters. Every method raises what is in BROKER_FAULTS."""

    def __init__(self, amqp_url: str) -> None:
        self._url = amqp_url
        self._lock = asyncio.Lock()  # in a gateway each waits in line

    async def page(self, after: tuple[int, str], limit: int) -> list[DeadLetter]:
        """At most `limit` messages after this place, oldest first, without their bodies."""
        async with self._reading() as channel:
            found = [replace(message, body=b"") async for message in _messages(channel)]
        return sorted((each for each in found if each.place > after), key=lambda each: each.place)[:limit]

    @contextlib.asynccontextmanager
    async def held(self, identity: str) -> AsyncGenerator[HeldDeadLetter | None]:
        """The first message with this id, if there is one."""
        async with self._reading() as channel:
            message = await _first(channel, identity)
            yield None if message is None else HeldDeadLetter(message, channel)

    @contextlib.asynccontextmanager
    async def _reading(self) -> AsyncGenerator[Channel]:
        """A channel on which nobody else reads, for LOOK_S_MAX seconds at most."""
        async with self._lock, self._connected() as connection:
            with cancelled_only_by_us():
                async with asyncio.timeout(LOOK_S_MAX):
                    await _take_turn(connection)
                async with asyncio.timeout(LOOK_S_MAX):
                    channel = await open_channel(connection, confirmed=False)
                    await declare_bound(connection, DEAD_LETTER_QUEUE)
                    yield channel
                    # Before the next look, which would miss some. After a fault the end of the connection does it.
                    await channel.basic_nack(0, multiple=True, requeue=True)
                    # The broker answers to this, so what was sent before it has arrived.
                    await channel.close()

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Connection]:
        connection = await connect(self._url, name="gateway.dead_letters")
        try:
            yield connection
        finally:
            with contextlib.suppress(*BROKER_FAULTS), cancelled_only_by_us():
                async with asyncio.timeout(LOOK_S_MAX):
                    await connection.close()


async def _messages(channel: Channel) -> AsyncGenerator[DeadLetter]:
    """The messages that are in the queue, at most MESSAGES_MAX. It does not wait for more."""
    for _ in range(MESSAGES_MAX):
        message = await channel.basic_get(topology.DEAD_LETTERS_QUEUE, no_ack=False)
        if message.delivery_tag is None:
            return
        yield read_dead_letter(message)


async def _first(channel: Channel, identity: str) -> DeadLetter | None:
    read = 0
    async with contextlib.aclosing(_messages(channel)) as messages:
        async for message in messages:
            if message.id == identity:
                return message
            read += 1
    if read == MESSAGES_MAX:
        raise RuntimeError(f"{identity} is not among the first {MESSAGES_MAX} dead letters, but there may be more")
    return None


async def _take_turn(connection: Connection) -> None:
    """Waits until no other connection looks; the end of the connection ends the turn."""
    while True:
        channel = await open_channel(connection, confirmed=False)
        try:
            await channel.queue_declare(TURN, exclusive=True)
            return
        except QueueLocked:
            await asyncio.sleep(TURN_POLL_S)


def read_dead_letter(message: IncomingMessage) -> DeadLetter:
    """The dead letter in a message: from the headers that a service adds, else from the broker's `x-death`."""
    properties = message.header.properties
    headers = cast("Mapping[str, object]", properties.headers or {})
    death = _last_death(headers)
    keys = cast("Sequence[str]", death.get("routing-keys") or [""])
    retries = headers.get(RETRIES_HEADER)
    return DeadLetter(
        id=_identity(headers.get(ID_HEADER) or properties.message_id, message.body),
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
        size=len(message.body),
        tag=message.delivery_tag or 0,
    )


def _identity(given: object, body: bytes) -> str:
    """The id that a service of ours gave; what others sent gets one that can stand in a path, from its content."""
    if isinstance(given, str) and given.isascii() and given.isalnum() and len(given) <= ID_CHARACTERS_MAX:
        return given
    return hashlib.sha256(f"{given}:".encode() + body).hexdigest()[:32]


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
