"""The way to RabbitMQ: links that reconnect, and publishes whose end is known or said to be unknown.

aiormq is used where every message counts, since it can publish without holding its lock across the drain (facts: 250
µs a message instead of 400); aio-pika, which is built on it, where comfort counts. Nothing here resumes consuming by
itself.
"""

import asyncio
import contextlib
import itertools
import random
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, Final, cast

import aio_pika
import aiormq
import structlog
from aiormq.abc import AbstractConnection, DeliveredMessage
from aiormq.exceptions import AMQPError, ChannelInvalidStateError, DeliveryError, PublishError
from pamqp.commands import Basic
from yarl import URL

from shared.values import value

log = structlog.get_logger()

HEARTBEAT_S: Final = 10
CONNECT_TIMEOUT_S: Final = 10.0
CONFIRM_TIMEOUT_S: Final = 2.0
BACKOFF_MS_MIN: Final = 200
BACKOFF_MS_MAX: Final = 5_000
# Message ids: of this process, one after the other.
_PROCESS: Final = uuid.uuid4().hex
_NUMBERS: Final = itertools.count()
LINK_FAULTS: Final = (AMQPError, ConnectionError, OSError, TimeoutError, ChannelInvalidStateError, RuntimeError)

Delivery = DeliveredMessage
Channel = aiormq.Channel
Connection = AbstractConnection
# Makes the channels of a new connection and returns those whose loss ends the link's session.
Opened = Callable[[AbstractConnection], Awaitable[Sequence[Channel]]]


class BusError(Exception):
    """A publish did not end with a confirm."""


class NotSent(BusError):
    """The broker is not connected or blocks publishers: the message certainly did not leave."""


class Refused(BusError):
    """The broker confirmed that it did not take the message: the queue is full."""


class Unroutable(BusError):
    """No queue is bound for the key: the message came back."""


class SendUnknown(BusError):
    """No confirm came in time: the message may be in the queue, now or later."""


class LinkClosed(ConnectionError):
    """What was waited for will not come: the connection was closed."""


@contextlib.contextmanager
def cancelled_only_by_us() -> Generator[None]:
    """Aiormq ends what waits on a closed connection as if it were cancelled, which a task group would not notice.

    Here that is LinkClosed. Around every wait for the broker.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and not task.cancelling():
            raise LinkClosed("the connection was closed") from error
        raise


def backoff_s(attempt: int) -> float:
    """Seconds to wait before attempt n = 0, 1, …: capped exponential with full jitter."""
    return random.uniform(BACKOFF_MS_MIN, min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2.0 ** min(attempt, 10))) / 1_000  # noqa: S311 - jitter


async def connect(url: str, *, name: str, heartbeat_s: int = HEARTBEAT_S) -> AbstractConnection:
    """One connection. The heartbeat is set in the URL, since aiormq ignores what the broker suggests."""
    target = URL(url).update_query(heartbeat=str(heartbeat_s), name=name)
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        return await aiormq.connect(target)


class Link:
    """One connection kept open: on each (re)connect `opened` makes its channels.

    When it is lost they are gone with it.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        opened: Opened,
        lost: Callable[[], None] = lambda: None,
        heartbeat_s: int = HEARTBEAT_S,
    ) -> None:
        self._url = url
        self._name = name
        self._opened = opened
        self._lost = lost
        self._heartbeat_s = heartbeat_s
        self.connection: AbstractConnection | None = None

    async def run(self) -> None:
        """Keeps the link until cancelled."""
        attempt = 0
        while True:
            try:
                with cancelled_only_by_us():
                    async with self._session() as ends:
                        attempt = 0
                        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            except LINK_FAULTS as fault:
                log.warning("amqp.link_lost", link=self._name, fault=repr(fault), attempt=attempt)
            await asyncio.sleep(backoff_s(attempt))
            attempt += 1

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncGenerator[list["asyncio.Future[Any]"]]:
        connection = await connect(self._url, name=self._name, heartbeat_s=self._heartbeat_s)
        try:
            channels = await self._opened(connection)
            self.connection = connection
            log.info("amqp.link_open", link=self._name)
            yield [closing(link) for link in (connection, *channels)]
        finally:
            self.connection = None
            self._lost()
            with contextlib.suppress(*LINK_FAULTS), cancelled_only_by_us():
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await connection.close()

    def is_writable(self) -> bool:
        """Connected, and not blocked by a memory or disk alarm."""
        return self.connection is not None and is_unblocked(self.connection)


def is_unblocked(connection: AbstractConnection) -> bool:
    """False while the broker blocks publishers."""
    ready = connection.ready()
    try:
        # One step by hand: it ends at once when nothing blocks, and costs no task on the way of each envelope.
        ready.send(None)
    except StopIteration:
        return True
    ready.close()
    return False


def closing(link: AbstractConnection | Channel) -> "asyncio.Future[Any]":
    """Ends when the connection or channel does."""
    return cast("asyncio.Future[Any]", link.closing)  # pyright: ignore[reportUnknownMemberType] aiormq leaves it open


def fresh_message_id() -> str:
    """One that no other message has."""
    return f"{_PROCESS}{next(_NUMBERS):x}"


@value
class Outgoing:
    """One message to publish, once. `message_id` is made fresh unless it is given: aiormq maps returns by it."""

    exchange: str
    key: str
    body: bytes
    kind: str
    reply_to: str | None = None
    correlation_id: str | None = None
    headers: Mapping[str, str | int] | None = None
    persistent: bool = True
    mandatory: bool = True
    message_id: str | None = None

    def properties(self) -> Basic.Properties:
        """AMQP properties. Never a priority: it would reorder commands."""
        return Basic.Properties(
            content_type="application/json",
            delivery_mode=2 if self.persistent else 1,
            message_id=self.message_id or fresh_message_id(),
            correlation_id=self.correlation_id,
            reply_to=self.reply_to,
            message_type=self.kind,
            app_id="tellerline",
            headers=dict(self.headers) if self.headers else None,
        )


async def open_channel(connection: AbstractConnection, *, confirmed: bool) -> Channel:
    """A channel of the concrete class, which alone can publish and acknowledge without waiting for the drain."""
    channel = await connection.channel(publisher_confirms=confirmed, on_return_raises=confirmed)
    return cast("Channel", channel)


async def open_confirmed(connection: AbstractConnection) -> Channel:
    """A channel whose publishes are confirmed and whose returns raise."""
    return await open_channel(connection, confirmed=True)


def can_publish(channel: Channel | None) -> bool:
    """Whether there is a channel, and the broker blocks nobody on it."""
    return channel is not None and not channel.is_closed and is_unblocked(channel.connection)


async def publish(channel: Channel | None, message: Outgoing, *, timeout_s: float = CONFIRM_TIMEOUT_S) -> None:
    """Publishes and waits for the broker's confirm. Raises NotSent, Refused, Unroutable or SendUnknown (DESIGN §5)."""
    if channel is None or channel.is_closed:
        raise NotSent("the broker is not connected")
    if not is_unblocked(channel.connection):
        raise NotSent("the broker blocks publishers")
    try:
        with cancelled_only_by_us():
            async with asyncio.timeout(timeout_s):
                await channel.basic_publish(
                    message.body,
                    exchange=message.exchange,
                    routing_key=message.key,
                    properties=message.properties(),
                    mandatory=message.mandatory,
                    wait=False,
                )
    except PublishError as error:
        raise Unroutable(message.key) from error
    except DeliveryError as error:
        raise Refused(message.key) from error
    except LINK_FAULTS as error:
        raise SendUnknown(repr(error)) from error


async def publish_unconfirmed(channel: Channel, message: Outgoing) -> None:
    """For a channel without confirms: replies and nudges, whose loss is harmless. Raises what is in LINK_FAULTS."""
    with cancelled_only_by_us():
        await channel.basic_publish(
            message.body,
            exchange=message.exchange,
            routing_key=message.key,
            properties=message.properties(),
            mandatory=False,
            wait=False,
        )


async def open_reply_queue(
    connection: AbstractConnection, on_message: Callable[[bytes], object]
) -> tuple[Channel, str]:
    """An exclusive queue with a name from the broker (never a fixed one: the re-declare race).

    Returns channel and name.
    """
    channel = await open_channel(connection, confirmed=False)
    declared = await channel.queue_declare("", exclusive=True, auto_delete=True)

    async def deliver(message: DeliveredMessage) -> None:
        on_message(message.body)

    if declared.queue is None:
        raise RuntimeError("the broker gave the reply queue no name")
    await channel.basic_consume(declared.queue, deliver, no_ack=True)
    return channel, declared.queue


async def ask(connection: AbstractConnection, *, queue: str | None = None) -> None:
    """Returns once the broker has answered; `queue` must be there. Has no bound: a silent broker is waited for.

    On a channel of its own: a question holds its channel's lock until it is answered, and a refused one closes it.
    Raises what is in LINK_FAULTS.
    """
    with cancelled_only_by_us():
        channel = await open_channel(connection, confirmed=False)
        if queue is not None:
            await channel.queue_declare(queue, passive=True)
        await channel.close()


async def connect_comfortably(url: str, *, name: str) -> aio_pika.abc.AbstractConnection:
    """An aio-pika connection, for topology, parking and other work off the hot path."""
    return await aio_pika.connect(
        URL(url).update_query(heartbeat=str(HEARTBEAT_S), name=name), timeout=CONNECT_TIMEOUT_S
    )
