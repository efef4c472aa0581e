"""Those who send envelopes straight to this worker, and hear their answers so, besides the broker (ADR 14, ADR 15)."""

import asyncio
import hmac
import ipaddress
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog
from aiohttp import web
from yarl import URL

from services.ledger_worker.ports import Inbound
from shared.direct_links import (
    AHEAD_BYTES_MAX,
    HEARTBEAT_S,
    MAC_BYTES,
    OPEN_S_MAX,
    PATH,
    LinkRefused,
    Session,
    fresh_nonce,
    hello_of,
)
from shared.envelopes import ENVELOPE_KIND, read_ahead

log = structlog.get_logger()

# Who leaves so much unread has stopped, and hears by the broker.
UNREAD_BYTES_MAX: Final = 16 * 1024 * 1024
CLOSE_S_MAX: Final = 1.0
AMQP_PORT: Final = 5672


@dataclass(slots=True, eq=False)
class Link:
    """An open link to one sender."""

    stream: web.WebSocketResponse
    transport: asyncio.Transport
    session: Session

    async def close(self) -> None:
        """Ends it, within CLOSE_S_MAX; what the other end has not read by then is lost."""
        await self.stream.close(drain=False)  # or it would wait without a bound
        self.transport.abort()


class Senders:
    """By reply queue, which is the name that a sender gives with its commands.

    `deliver` takes an envelope that came ahead of the broker; a plain call that must not wait.
    """

    def __init__(self, secret: bytes, deliver: Callable[[Inbound], None]) -> None:
        self._secret = secret
        self._deliver = deliver
        self._links: dict[str, Link] = {}
        self._host = ""
        self._port = 0
        self.address = ""  # a URL; empty until it is known how others reach us

    def routes(self) -> list[web.RouteDef]:
        """For the server that this worker has in any case."""
        return [web.get(PATH, self._listen)]

    def serve_at(self, host: str, port: int) -> None:
        """What the server is bound to."""
        self._host, self._port = host, port

    async def locate(self, broker: str) -> None:
        """Finds where others reach this worker: if it is bound to every address, at the one that `broker` sees."""
        if not self._port:
            return
        try:
            host = await _address_towards(URL(broker), self._host) if _is_every_address(self._host) else self._host
        except OSError as fault:
            log.warning("direct.no_address", fault=repr(fault))
            return
        self.address = str(URL.build(scheme="http", host=host, port=self._port, path=PATH))

    def hears(self, reply_to: str) -> bool:
        """Whether there is a link."""
        return reply_to in self._links

    async def tell(self, reply_to: str, body: bytes) -> bool:
        """Whether the reply has left; never waits."""
        link = self._links.get(reply_to)
        if link is None:
            return False
        if link.transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            log.warning("direct.unread", reply_to=reply_to)
            link.transport.abort()
            self._forget(reply_to, link)
            return False
        try:
            await link.stream.send_bytes(link.session.replies.sealed(body))
        except ConnectionError:
            self._forget(reply_to, link)
            return False
        return True

    async def close(self) -> None:
        """Ends every link: the rest goes by the broker."""
        links, self._links = self._links, {}
        async with asyncio.TaskGroup() as group:
            for link in links.values():
                group.create_task(link.close(), name="closing answers")

    def _forget(self, reply_to: str, link: Link) -> None:
        if self._links.get(reply_to) is link:
            del self._links[reply_to]

    async def _listen(self, request: web.Request) -> web.WebSocketResponse:
        transport = request.transport
        # It never waits until all is written: all lines would wait for one who does not read.
        stream = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S,
            compress=False,
            max_msg_size=AHEAD_BYTES_MAX + MAC_BYTES + 1,  # the first size that is refused
            writer_limit=sys.maxsize,
            timeout=CLOSE_S_MAX,
        )
        try:
            await stream.prepare(request)
            if transport is not None:
                await self._serve(stream, transport)
        except (ConnectionError, TimeoutError, LinkRefused) as fault:
            log.warning("direct.refused", peer=request.remote, fault=f"{type(fault).__name__}: {fault}")
        if stream.prepared:
            await stream.close()
        return stream

    def _take(self, reply_to: str, message: bytes) -> None:
        try:
            partition, message_id, mac, body = read_ahead(message)
        except ValueError as fault:
            raise LinkRefused("an envelope that nobody can read") from fault
        self._deliver(
            Inbound(
                partition,
                body,
                mac,
                reply_to,
                redelivered=False,
                channel=None,
                tag=0,
                kind=ENVELOPE_KIND,
                message_id=message_id,
            )
        )

    async def _serve(self, stream: web.WebSocketResponse, transport: asyncio.Transport) -> None:
        """Until the link ends. Raises LinkRefused, or a fault of the network."""
        nonce = fresh_nonce()
        await stream.send_str(nonce)
        hello = hello_of((await stream.receive(OPEN_S_MAX)).data)
        its = Session(self._secret, self.address, hello.reply_to, worker_nonce=nonce, sender_nonce=hello.nonce)
        if not hmac.compare_digest(hello.proof, its.proof()):
            raise LinkRefused("a sender that does not know the secret, or wants another worker")
        link = Link(stream, transport, its)
        if (older := self._links.get(hello.reply_to)) is not None:
            older.transport.abort()
        self._links[hello.reply_to] = link
        try:
            async for message in stream:
                if message.type is web.WSMsgType.BINARY:
                    self._take(hello.reply_to, its.envelopes.opened(message.data))
        finally:
            self._forget(hello.reply_to, link)


def _is_every_address(host: str) -> bool:
    try:
        return not host or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False  # a name


async def _address_towards(broker: URL, bound: str) -> str:
    """Our own address on the way to the broker, of the family that we are bound to. Sends nothing. Raises OSError."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol,
        remote_addr=(broker.host or "localhost", broker.port or AMQP_PORT),
        family=socket.AF_INET6 if ":" in bound else socket.AF_INET,
    )
    try:
        return str(transport.get_extra_info("sockname")[0])
    finally:
        transport.close()
