"""Connections with deadlines: aiohttp itself waits for ever for the rest of a request (measured: still open at 25 s).

A client has `header_s` to complete the head of a request, from its first byte, or from the connection's start for the
first request; `write_s` to go on reading an answer. Whoever reads a body keeps the deadline of the body.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from services.gateway.http.response import ResponseWriter
from shared.domain.values import value

# Answers what aiohttp refused. Takes the request as far as it was parsed, the status, and the exception, if any.
ServeUnreadable = Callable[[web.BaseRequest, int, BaseException | None], ResponseWriter]
Serve = Callable[[web.BaseRequest], Awaitable[ResponseWriter]]


@value
class Deadlines:
    """In seconds: for the head of a request, between two requests, and for a client that does not read."""

    header_s: float
    idle_s: float
    write_s: float


class GuardedServer(web.Server):
    """Makes a guarded connection handler for each connection, up to `connections_max`.

    `refuse_connection`: makes the answer to a connection beyond that.
    """

    def __init__(
        self,
        serve: Serve,
        *,
        serve_unreadable: ServeUnreadable,
        refuse_connection: Callable[[], bytes],
        deadlines: Deadlines,
        connections_max: int,
    ) -> None:
        super().__init__(
            cast("Any", serve),  # aiohttp asks less of a response than its type says
            access_log=None,
            keepalive_timeout=deadlines.idle_s,
            auto_decompress=False,
            lingering_time=2.0,
        )
        self.serve_unreadable = serve_unreadable
        self.refuse_connection = refuse_connection
        self.deadlines = deadlines
        self.connections_max = connections_max

    def __call__(self) -> RequestHandler:
        """A handler for one more connection."""
        return GuardedHandler(self, loop=self._loop, **self._kwargs)

    @property
    def is_full(self) -> bool:
        """Whether there are more connections than allowed, the one that is being opened included."""
        return len(self._connections) > self.connections_max


class GuardedHandler(RequestHandler):
    """One connection. One timer runs while a request's head is incomplete, another while the client does not read."""

    __slots__ = ("_deadline", "_guarded", "_write_deadline")

    def __init__(self, server: GuardedServer, *, loop: asyncio.AbstractEventLoop, **kwargs: object) -> None:
        super().__init__(server, loop=loop, **kwargs)  # pyright: ignore[reportArgumentType] - handed through from Server
        self._guarded = server
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answers 503 and closes if there are too many connections; else starts the timer for the first head."""
        super().connection_made(transport)
        if self._guarded.is_full and self.transport is not None:
            self.transport.write(self._guarded.refuse_connection())
            self.force_close()
            return
        self._expect_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancels both timers."""
        self._head_is_complete()
        if self._write_deadline is not None:
            self._write_deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, received: bytes) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - asyncio passes it by position
        """Stops the timer when these bytes complete a head; starts it when they leave one incomplete."""
        before = self._request_count
        super().data_received(received)
        if self._request_count != before:
            self._head_is_complete()
        elif self._current_request is None and not self._messages:
            self._expect_head()

    def pause_writing(self) -> None:
        """Called when the send buffer is full because the client does not read: it has `write_s` to go on."""
        super().pause_writing()
        self._write_deadline = self._loop.call_later(self._guarded.deadlines.write_s, self._cut)

    def resume_writing(self) -> None:
        """Called when the client has read enough of the buffer."""
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
        """Answers what aiohttp refused with a problem. Drops aiohttp's message, which may repeat the client's input."""
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
