"""AMQP channels: opens them, and publishes with a result that is either certain or explicitly unknown.

aiormq is used on the hot path: it can publish without holding its lock until the socket has drained, which takes
250 µs per message instead of 400. aio-pika, which is built on it, is used elsewhere.
"""

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import Any, Final, TypeAlias, cast

import aiormq
from aiormq.abc import AbstractConnection, DeliveredMessage
from aiormq.exceptions import AMQPError, ChannelInvalidStateError, ChannelLockedResource, DeliveryError, PublishError
from pamqp.commands import Basic

from shared.domain.values import value

CONFIRM_TIMEOUT_S: Final = 2.0
UNCONFIRMED_TIMEOUT_S: Final = 0.5
REQUESTS_TIMEOUT_S: Final = 3.0
CLOSE_TIMEOUT_S: Final = 1.0
PING_KEY: Final = "tellerline.ping"
BROKER_FAULTS: Final = (AMQPError, ConnectionError, OSError, TimeoutError, ChannelInvalidStateError, RuntimeError)
# A message id is this prefix, random per process, and a number.
_PROCESS: Final = uuid.uuid4().hex
_NUMBERS: Final = itertools.count()

IncomingMessage: TypeAlias = DeliveredMessage
Channel: TypeAlias = aiormq.Channel
Connection: TypeAlias = AbstractConnection
# Another connection has declared this queue as exclusive.
QueueLocked: TypeAlias = ChannelLockedResource


class ConnectionClosed(ConnectionError):
    """The connection was closed while its answer was awaited."""


@contextlib.contextmanager
def cancelled_only_by_us() -> Generator[None]:
    """Turns the cancellation with which aiormq ends waits on a closed connection into ConnectionClosed.

    A task group could not tell it from a cancellation by its own parent. Wraps every wait for the broker.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and not task.cancelling():
            raise ConnectionClosed("the connection was closed") from error
        raise


def is_unblocked(connection: Connection) -> bool:
    """False while the broker blocks publishers."""
    ready = connection.ready()
    try:
        # Runs the coroutine one step by hand: it ends at once unless blocked, and needs no task per envelope.
        ready.send(None)
    except StopIteration:
        return True
    ready.close()
    return False


def when_closed(closable: Connection | Channel) -> "asyncio.Future[Any]":
    """A future that is done once the connection or channel is closed."""
    return cast("asyncio.Future[Any]", closable.closing)  # pyright: ignore[reportUnknownMemberType] aiormq leaves it open


async def open_channel(connection: Connection, *, confirmed: bool) -> Channel:
    """A channel; with `confirmed`, publishes are confirmed and a returned message raises.

    Cast to the concrete class: the abstract one cannot publish or acknowledge without waiting for the drain.
    """
    channel = await connection.channel(publisher_confirms=confirmed, on_return_raises=confirmed)
    return cast("Channel", channel)


@contextlib.asynccontextmanager
async def temporary_channel(connection: Connection) -> AsyncGenerator[Channel]:
    """A channel for some requests, within REQUESTS_TIMEOUT_S altogether. Raises what is in BROKER_FAULTS.

    A request that is refused or given up closes its channel, so it must not be made on one that consumes or publishes.
    """
    with cancelled_only_by_us():
        async with asyncio.timeout(REQUESTS_TIMEOUT_S):
            channel = await open_channel(connection, confirmed=False)
            yield channel
            await channel.close()


def close_when_cancelled(channel: Channel) -> None:
    """Closes the channel when the broker cancels its consumer (the queue was deleted). It would stay open and silent.

    The closing has a task of its own: the callback runs in the task that must read the broker's answer to it.
    """

    def cancelled(_: object) -> None:
        channel.create_task(channel.close())  # pyright: ignore[reportUnknownMemberType] aiormq leaves it open

    channel.on_consumer_cancel_callbacks.add(cancelled)


async def consume_exclusive_queue(
    connection: Connection, on_message: Callable[[bytes], object], *, length_max: int | None = None
) -> tuple[Channel, str]:
    """Declares an exclusive queue and consumes it without acknowledgements. Returns its channel and its name.

    The broker chooses the name: a fixed one could still belong to the connection that was just lost. Beyond
    `length_max` waiting messages it drops the oldest.
    """
    channel = await open_channel(connection, confirmed=False)
    declared = await channel.queue_declare(
        "", exclusive=True, auto_delete=True, arguments={} if length_max is None else {"x-max-length": length_max}
    )

    async def deliver(message: DeliveredMessage) -> None:
        on_message(message.body)

    if declared.queue is None:
        raise RuntimeError("the broker gave the exclusive queue no name")
    close_when_cancelled(channel)
    await channel.basic_consume(declared.queue, deliver, no_ack=True)
    return channel, declared.queue


async def ping(connection: Connection, *, queue: str | None = None) -> None:
    """Returns once the broker has answered and, with `queue`, has that queue, or, without, has confirmed a publish.

    Uses a new channel, since a request holds its channel's lock until it is answered, and closes it if refused. Raises
    what is in BROKER_FAULTS, after REQUESTS_TIMEOUT_S at most but for the time that the closing takes.
    """
    with cancelled_only_by_us():
        async with asyncio.timeout(REQUESTS_TIMEOUT_S):
            channel = await open_channel(connection, confirmed=queue is None)
            try:
                if queue is not None:
                    await channel.queue_declare(queue, passive=True)
                else:
                    # No queue has this name: the broker drops the message, and confirms it.
                    await channel.basic_publish(b"", routing_key=PING_KEY, mandatory=False)
            finally:
                with contextlib.suppress(*BROKER_FAULTS):
                    async with asyncio.timeout(CLOSE_TIMEOUT_S):
                        await channel.close()


async def waiting_messages(connection: Connection, queue: str) -> int:
    """How many messages wait in the queue for a consumer. Raises what is in BROKER_FAULTS."""
    async with temporary_channel(connection) as channel:
        return (await channel.queue_declare(queue, passive=True)).message_count or 0


class PublishFailed(Exception):
    """A publish did not end with the broker's confirm."""


class NotPublished(PublishFailed):
    """The broker is not connected or blocks publishers: the message did not leave."""


class QueueFull(PublishFailed):
    """The broker refused the message: the queue has reached its maximum length."""


class Unroutable(PublishFailed):
    """The broker returned the message: no queue is bound for its key."""


class PublishUnknown(PublishFailed):
    """No confirm came in time: the message may be in the queue, now or later."""


@value
class OutgoingMessage:
    """One message to publish. `key`: the routing key; `kind`: the AMQP type; `mandatory`: returned if unroutable."""

    exchange: str
    key: str
    body: bytes
    kind: str
    reply_to: str | None = None
    correlation_id: str | None = None
    headers: Mapping[str, str | int] | None = None
    persistent: bool = True
    mandatory: bool = True

    def properties(self) -> Basic.Properties:
        """AMQP properties, with a new message id, by which aiormq matches returns. No priority: it would reorder."""
        return Basic.Properties(
            content_type="application/json",
            delivery_mode=2 if self.persistent else 1,
            message_id=f"{_PROCESS}{next(_NUMBERS):x}",
            correlation_id=self.correlation_id,
            reply_to=self.reply_to,
            message_type=self.kind,
            app_id="tellerline",
            headers=dict(self.headers) if self.headers else None,
        )


async def publish(channel: Channel | None, message: OutgoingMessage, *, timeout_s: float = CONFIRM_TIMEOUT_S) -> None:
    """Publishes and waits for the broker's confirm.

    Raises NotPublished, QueueFull or Unroutable when the message is certainly in no queue, else PublishUnknown.
    """
    if channel is None or channel.is_closed:
        raise NotPublished("the broker is not connected")
    if not is_unblocked(channel.connection):
        raise NotPublished("the broker blocks publishers")
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
        raise QueueFull(message.key) from error
    except BROKER_FAULTS as error:
        raise PublishUnknown(repr(error)) from error


async def publish_unconfirmed(channel: Channel | None, message: OutgoingMessage) -> None:
    """Publishes replies and nudges, whose loss is harmless, on a channel without confirms.

    Loses the message, rather than wait or keep it in memory, when the broker is not connected or blocks publishers.
    """
    if channel is None or channel.is_closed or not is_unblocked(channel.connection):
        return
    with contextlib.suppress(*BROKER_FAULTS), cancelled_only_by_us():
        async with asyncio.timeout(UNCONFIRMED_TIMEOUT_S):
            await channel.basic_publish(
                message.body,
                exchange=message.exchange,
                routing_key=message.key,
                properties=message.properties(),
                mandatory=False,
                wait=False,
            )
