"""The short way between whoever sends commands and the worker that decides them (ADR 14, ADR 15).

Replies come by the broker, and say where their worker can be reached; from then on they come over a WebSocket to it,
and by it envelopes go ahead of the broker. One that breaks, or cannot be opened, costs nothing but time: both go by the
broker again, and what was lost with it stands in the journal, or comes by the broker.
"""

import asyncio
import contextlib
import hmac
import itertools
import secrets
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Annotated, Final, TypeAlias

import aiohttp
import structlog
from pydantic import Field, ValidationError

from shared.faults import FaultPoint, fault_point
from shared.messages.base import Message

log = structlog.get_logger()

PATH: Final = "/direct"
# A link on which nothing is heard for one and a half of these is closed, by either end.
HEARTBEAT_S: Final = 2.0
OPEN_S_MAX: Final = 2.0
# Of messages that a worker does not take; then it is offered no more.
OFFERED_MAX: Final = 16
# A worker whose link has ended, or could not be opened, is not tried again for so long.
REST_S: Final = 5.0
CLOSING: Final = aiohttp.ClientWSTimeout(ws_close=1.0)  # pyright: ignore[reportCallIssue] its fields are hidden from it
# What the broker takes in one message.
MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
MAC_BYTES: Final = 32
# What goes ahead in one message, about a hundred commands. More of them wait for each other, not for the broker.
AHEAD_BYTES_MAX: Final = 32 * 1024

# Where a worker listens, and the reply queue of whoever hears it.
Way: TypeAlias = tuple[str, str]


class LinkRefused(Exception):
    """What listens there does not show that it knows our secret."""


class Hello(Message):
    """The sender's first message: what it asks for, and that it may."""

    reply_to: Annotated[str, Field(min_length=1, max_length=255)]
    nonce: Annotated[str, Field(min_length=16, max_length=64)]
    proof: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def fresh_nonce() -> str:
    """What nobody can have seen before."""
    return secrets.token_hex(16)


class Stream:
    """One direction of a link: each message carries its MAC with its number, which both ends count."""

    def __init__(self, key: bytes, direction: bytes) -> None:
        self._key = hmac.digest(key, direction, "sha256")
        self._numbers = itertools.count()

    def sealed(self, body: bytes) -> bytes:
        """The next message."""
        return self._mac(body) + body

    def opened(self, message: bytes) -> bytes:
        """The body of the next message. Raises LinkRefused."""
        shown, body = message[:MAC_BYTES], message[MAC_BYTES:]
        if not hmac.compare_digest(shown, self._mac(body)):
            raise LinkRefused("a message that the other end did not send, or not now")
        return body

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, b"%d\n" % next(self._numbers) + body, "sha256")


class Session:
    """What both ends of one link compute alike: the sender's proof, and the MACs of `replies` and `envelopes`.

    Its key is of this link alone: by the shared secret over the worker's address, the reply queue and a nonce of each
    end. So nothing can be said again on another link, or be passed on from another worker.
    """

    def __init__(self, secret: bytes, address: str, reply_to: str, *, worker_nonce: str, sender_nonce: str) -> None:
        parts = f"{address}\n{reply_to}\n{worker_nonce}\n{sender_nonce}"
        self._key = hmac.digest(secret, parts.encode(), "sha256")
        self.replies = Stream(self._key, b"replies")
        self.envelopes = Stream(self._key, b"envelopes")

    def proof(self) -> str:
        """What only the sender says."""
        return hmac.digest(self._key, b"sender", "sha256").hex()


class WayOut:
    """What is offered to a worker over its link; nobody waits until it is taken."""

    def __init__(self, link: aiohttp.ClientWebSocketResponse, stream: Stream) -> None:
        self._link = link
        self._stream = stream
        self._offered: deque[bytes] = deque()
        self._changed = asyncio.Event()

    def offer(self, message: bytes) -> bool:
        """Whether it may reach the worker."""
        if len(self._offered) >= OFFERED_MAX:
            return False
        self._offered.append(message)
        self._changed.set()
        return True

    async def run(self) -> None:
        """Sends until cancelled, or until the link ends."""
        with contextlib.suppress(ConnectionError):
            while True:
                await self._changed.wait()
                self._changed.clear()
                while self._offered:
                    await self._link.send_bytes(self._stream.sealed(self._offered[0]))
                    self._offered.popleft()
                    fault_point(FaultPoint.GATEWAY_AHEAD)


class DirectLinks:
    """The sender's end: one link for each worker that it hears of.

    `hear` takes the bytes of a reply, and says which worker it is from (empty: none that can be told).
    """

    def __init__(self, secret: bytes, hear: Callable[[bytes], str]) -> None:
        self._secret = secret
        self._hear = hear
        self._ways: dict[Way, asyncio.Task[None] | None] = {}
        # By worker and reply queue, those that take envelopes: who was heard there has shown that it knows the secret.
        self._open: dict[tuple[str, str], WayOut] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Keeps the links until cancelled."""
        # One for each worker, and nobody else is asked: the usual limit of connections would leave some out.
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
            while True:
                await self._changed.wait()
                self._changed.clear()
                for way in [way for way, task in self._ways.items() if task is None]:
                    task = group.create_task(self._keep(session, group, way), name=f"answers of {way[0]}")
                    task.add_done_callback(partial(self._forget, way))
                    self._ways[way] = task

    def want(self, address: str, reply_to: str) -> None:
        """A worker that listens at `address` (a URL) decides commands of ours. Nothing if there is a link already."""
        if (address, reply_to) not in self._ways:
            self._ways[address, reply_to] = None
            self._changed.set()

    def offer(self, worker: str, reply_to: str, message: bytes) -> bool:
        """Whether it may reach the worker: one that was heard directly, and takes what it is sent. Never waits."""
        way_out = self._open.get((worker, reply_to))
        return way_out is not None and len(message) <= AHEAD_BYTES_MAX and way_out.offer(message)

    async def _keep(self, session: aiohttp.ClientSession, group: asyncio.TaskGroup, way: Way) -> None:
        try:
            await self._listen(session, group, way)
        except (aiohttp.ClientError, OSError, ValueError, LinkRefused) as fault:
            log.warning("direct.unreachable", address=way[0], fault=f"{type(fault).__name__}: {fault}")
        else:
            log.info("direct.link_closed", address=way[0])
        await asyncio.sleep(REST_S)

    def _forget(self, way: Way, _: "asyncio.Task[None]") -> None:
        del self._ways[way]

    async def _listen(self, session: aiohttp.ClientSession, group: asyncio.TaskGroup, way: Way) -> None:
        """Until the link ends. Raises LinkRefused, ValueError (an address that is none), or a fault of the network."""
        address, reply_to = way
        async with asyncio.timeout(OPEN_S_MAX):
            link = await session.ws_connect(
                address, heartbeat=HEARTBEAT_S, max_msg_size=MESSAGE_BYTES_MAX, timeout=CLOSING
            )
        async with link:
            worker_nonce, sender_nonce = (await link.receive(OPEN_S_MAX)).data, fresh_nonce()
            if not isinstance(worker_nonce, str):
                raise LinkRefused("no nonce")
            its = Session(self._secret, address, reply_to, worker_nonce=worker_nonce, sender_nonce=sender_nonce)
            hello = Hello(reply_to=reply_to, nonce=sender_nonce, proof=its.proof())
            await link.send_str(hello.model_dump_json())
            log.info("direct.link_open", address=address)
            self._replace(way)
            way_out = WayOut(link, its.envelopes)
            sending = group.create_task(way_out.run(), name=f"envelopes to {address}")
            try:
                async for message in link:
                    if message.type is aiohttp.WSMsgType.BINARY and (
                        worker := self._take(its.replies.opened(message.data))
                    ):
                        self._open[worker, reply_to] = way_out
            finally:
                sending.cancel()
                self._open = {key: other for key, other in self._open.items() if other is not way_out}

    def _take(self, body: bytes) -> str:
        try:
            return self._hear(body)
        except Exception:
            log.exception("reply.not_taken")
            return ""

    def _replace(self, way: Way) -> None:
        """Ends a link to the same worker under an older reply queue, which was good for what came before this one."""
        for other, task in self._ways.items():
            if other[0] == way[0] and other != way and task is not None:
                task.cancel()


def hello_of(message: object) -> Hello:
    """Raises LinkRefused."""
    if not isinstance(message, str):
        raise LinkRefused("no greeting")
    try:
        return Hello.model_validate_json(message)
    except ValidationError as error:
        raise LinkRefused("a greeting that nobody can read") from error
