"""Connections with deadlines: aiohttp has none of its own for requests that never end (measured: open after 25 s).

A client has `header_s` to finish a request's head once it has begun, counted from the connection's start for the first;
the body's deadline is kept by whoever reads it; `write_s` bounds a client that does not read its answer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from services.gateway.http.response import ResponseWriter
from shared.domain.values import value

# Answers what aiohttp's parser refused: the request as far as it was read, the status, and the fault if it is ours.
ServeUnreadable = Callable[[web.BaseRequest, int, BaseException | None], ResponseWriter]
Serve = Callable[[web.BaseRequest], Awaitable[ResponseWriter]]

FULL_BODY: Final = b'{"type":"/problems/overloaded","title":"Too much is under way","status":503,"code":"overloaded"}'
FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(FULL_BODY), FULL_BODY)
)


@value
class Deadlines:
    """Seconds."""

    header_s: float
    idle_s: float
    write_s: float


class GuardedServer(web.Server):
    """Makes a guarded connection handler for each connection, up to `connections_max`."""

    def __init__(
        self, serve: Serve, *, serve_unreadable: ServeUnreadable, deadlines: Deadlines, connections_max: int
    ) -> None:
        super().__init__(
            cast("Any", serve),  # aiohttp asks less of a response than its type says
            access_log=None,
            keepalive_timeout=deadlines.idle_s,
            auto_decompress=False,
            lingering_time=2.0,
        )
        self.serve_unreadable = serve_unreadable
        self.deadlines = deadlines
        self.connections_max = connections_max

    def __call__(self) -> RequestHandler:
        """A handler for one more connection."""
        return GuardedHandler(self, loop=self._loop, **self._kwargs)

    @property
    def is_full(self) -> bool:
        """More connections than may be."""
        return len(self._connections) > self.connections_max


class GuardedHandler(RequestHandler):
    """One connection. The timer runs while a request's head is incomplete, or while the client does not read."""

    __slots__ = ("_deadline", "_guarded", "_write_deadline")

    def __init__(self, server: GuardedServer, *, loop: asyncio.AbstractEventLoop, **kwargs: object) -> None:
        super().__init__(server, loop=loop, **kwargs)  # pyright: ignore[reportArgumentType] - handed through from Server
        self._guarded = server
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Turns away what is too many; else gives the client its time for the first request."""
        super().connection_made(transport)
        if self._guarded.is_full and self.transport is not None:
            self.transport.write(FULL)
            self.force_close()
            return
        self._expect_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stops the clocks."""
        self._head_is_complete()
        if self._write_deadline is not None:
            self._write_deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, received: bytes) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - asyncio passes it by position
        """Bytes that complete no request start the clock; those that do stop it."""
        before = self._request_count
        super().data_received(received)
        if self._request_count != before:
            self._head_is_complete()
        elif self._current_request is None and not self._messages:
            self._expect_head()

    def pause_writing(self) -> None:
        """The client does not read what it asked for."""
        super().pause_writing()
        self._write_deadline = self._loop.call_later(self._guarded.deadlines.write_s, self._cut)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        if self._write_deadline is not None:
            self._write_deadline.cancel()

    def handle_error(  # pyright: ignore[reportIncompatibleMethodOverride] - aiohttp asks less of a response than its type says
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> ResponseWriter:
        """What aiohttp itself refuses is answered like the rest; its message may echo the client and is dropped."""
        del message
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        response = self._guarded.serve_unreadable(request, status, exc)
        response.force_close()
        return response

    def _expect_head(self) -> None:
        if self._deadline is None:
            self._deadline = self._loop.call_later(self._guarded.deadlines.header_s, self._cut)

    def _head_is_complete(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut(self) -> None:
        if self.transport is not None:
            self.transport.abort()
