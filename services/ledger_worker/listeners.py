"""Those who hear their answers straight from this worker, not by the broker (ADR 14)."""

import asyncio
import contextlib
import hmac
import sys
from typing import Final

import structlog
from aiohttp import web
from yarl import URL

from shared.answer_links import HEARTBEAT_S, NONCE_HEADER, PATH, PROOF_HEADER, REPLY_TO_HEADER, proof
from shared.values import value

log = structlog.get_logger()

# Who leaves so much unread has stopped, and hears by the broker.
UNREAD_BYTES_MAX: Final = 16 * 1024 * 1024
CLOSE_S_MAX: Final = 1.0
# Nothing but heartbeats is expected from the other end.
MESSAGE_BYTES_MAX: Final = 1_024
AMQP_PORT: Final = 5672


@value
class Link:
    """An open link to one sender."""

    socket: web.WebSocketResponse
    transport: asyncio.Transport


class Listeners:
    """By reply queue, which is the name that a sender gives with its commands."""

    def __init__(self, key: bytes) -> None:
        self._key = key
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
        """Finds where others reach this worker: if it is bound to every address, at the one that `broker` sees.

        Raises OSError if the broker has no address.
        """
        if not self._port:
            return
        host = self._host
        if not host or host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
            host = await _address_towards(URL(broker))
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
            log.warning("answers.unread", reply_to=reply_to)
            link.transport.abort()
            self._forget(reply_to, link)
            return False
        try:
            await link.socket.send_bytes(body)
        except ConnectionError:
            self._forget(reply_to, link)
            return False
        return True

    async def close(self) -> None:
        """Ends every link: the rest goes by the broker."""
        links, self._links = self._links, {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S_MAX), asyncio.TaskGroup() as group:
                for link in links.values():
                    group.create_task(_close(link.socket), name="closing answers")

    def _forget(self, reply_to: str, link: Link) -> None:
        if self._links.get(reply_to) is link:
            del self._links[reply_to]

    async def _listen(self, request: web.Request) -> web.WebSocketResponse:
        reply_to, nonce = request.headers.get(REPLY_TO_HEADER, ""), request.headers.get(NONCE_HEADER, "")
        shown = request.headers.get(PROOF_HEADER, "")
        transport = request.transport
        if not hmac.compare_digest(shown.encode(), proof(self._key, "sender", reply_to, nonce).encode()):
            raise web.HTTPForbidden
        # It never waits until all is written: all lines would wait for one who does not read.
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, compress=False, max_msg_size=MESSAGE_BYTES_MAX, writer_limit=sys.maxsize
        )
        await socket.prepare(request)
        if transport is None:
            return socket
        await socket.send_str(proof(self._key, "worker", reply_to, nonce))
        link = self._links[reply_to] = Link(socket, transport)
        try:
            async for _ in socket:
                pass
        finally:
            self._forget(reply_to, link)
        return socket


async def _close(socket: web.WebSocketResponse) -> None:
    await socket.close()


async def _address_towards(broker: URL) -> str:
    """Our own address on the way to the broker. Sends nothing. Raises OSError."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=(broker.host or "localhost", broker.port or AMQP_PORT)
    )
    try:
        return str(transport.get_extra_info("sockname")[0])
    finally:
        transport.close()
