"""Connections with deadlines: aiohttp itself waits for ever for the rest of a request (measured: still open at 25 s).

A client has `header_s` to complete the head of a request, from its first byte, or from the connection's start for the
first request; `write_s` to go on reading an answer. Whoever reads a body keeps the deadline of the body.

An idle connection is closed in two steps: the server ends its side and drops what still comes, until the client has
ended its own. To close at once would reset the connection if a request is on its way, and a client that sees the end
knows that nothing was answered. `Server.stop` closes all connections that way, each after the answer that it waits for.
"""

import asyncio
import contextlib
import select
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from services.gateway.http.response import ResponseWriter
from shared.domain.values import value

# Answers what aiohttp refused. Takes the request as far as it was parsed, the status, and the exception, if any.
ServeUnreadable = Callable[[web.BaseRequest, int, BaseException | None], ResponseWriter]
Serve = Callable[[web.BaseRequest], Awaitable[ResponseWriter]]

# How long a client may take to see that the server has ended its side.
LINGER_S: Final = 2.0
STOP_POLL_S: Final = 0.1


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
        self.handlers: set[GuardedHandler] = set()
        self._empty = asyncio.Event()

    def __call__(self) -> RequestHandler:
        """A handler for one more connection."""
        return GuardedHandler(self, loop=self._loop, **self._kwargs)

    @property
    def is_full(self) -> bool:
        """Whether there are more connections than allowed, the one that is being opened included."""
        return len(self._connections) > self.connections_max

    def remove(self, handler: "GuardedHandler") -> None:
        """Forgets a connection that has ended."""
        self.handlers.discard(handler)
        if not self.handlers:
            self._empty.set()

    async def stop(self, *, grace_s: float, within_s: float) -> None:
        """Returns when every connection has ended; nobody may accept new ones any more.

        Who has sent a request gets its answer, which must say `Connection: close`. Idle connections are closed after
        `grace_s`, so that a client that is about to send gets an answer, too. After `within_s` what is left is cut.
        """
        end_s = self._loop.time() + within_s
        await self._until_empty(grace_s)
        while self.handlers and self._loop.time() < end_s:
            for handler in list(self.handlers):
                handler.close_if_idle()
            await self._until_empty(STOP_POLL_S)
        await self.shutdown(STOP_POLL_S)

    async def _until_empty(self, timeout_s: float) -> None:
        self._empty.clear()
        if self.handlers:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), timeout_s)


class GuardedHandler(RequestHandler):
    """One connection. One timer runs while a request's head is incomplete, another while the client does not read.

    A third one runs once this side has ended, until the client has ended the other.
    """

    __slots__ = ("_deadline", "_guarded", "_head_begun", "_lingering", "_write_deadline")

    def __init__(self, server: GuardedServer, *, loop: asyncio.AbstractEventLoop, **kwargs: object) -> None:
        super().__init__(server, loop=loop, **kwargs)  # pyright: ignore[reportArgumentType] - handed through from Server
        self._guarded = server
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._head_begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answers 503 and closes if there are too many connections; else starts the timer for the first head."""
        super().connection_made(transport)
        self._guarded.handlers.add(self)
        if self._guarded.is_full and self.transport is not None:
            self.transport.write(self._guarded.refuse_connection())
            self.force_close()
            return
        self._expect_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancels the timers."""
        self._head_is_complete()
        for timer in (self._write_deadline, self._lingering):
            if timer is not None:
                timer.cancel()
        self._guarded.remove(self)
        super().connection_lost(exc)

    def data_received(self, received: bytes) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - asyncio passes it by position
        """Stops the timer when these bytes complete a head; starts it when they leave one incomplete."""
        before = self._request_count
        super().data_received(received)
        if self._request_count != before:
            self._head_is_complete()
        elif self._current_request is None and not self._messages:
            self._head_begun = True
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

    def close_if_idle(self) -> None:
        """Ends this side unless a request is on its way or being answered; the client sees that nothing follows."""
        waiter = self._waiter
        is_idle = waiter is not None and not waiter.done() and not self._head_begun
        if self.transport is None or not is_idle or has_unread(self.transport):
            return
        self.close()  # from here on aiohttp drops what arrives
        self._head_is_complete()
        self.transport.write_eof()
        self._lingering = self._loop.call_later(LINGER_S, self._cut)

    def _process_keepalive(self) -> None:
        """Called by aiohttp, which would reset the connection if a request arrives now, when the idle limit is due."""
        if self._loop.time() < self._next_keepalive_close_time:
            super()._process_keepalive()
        else:
            self._keepalive_handle = None  # aiohttp starts it anew after the next answer
            self.close_if_idle()

    def _expect_head(self) -> None:
        if self._deadline is None:
            self._deadline = self._loop.call_later(self._guarded.deadlines.header_s, self._cut)

    def _head_is_complete(self) -> None:
        self._head_begun = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut(self) -> None:
        if self.transport is not None:
            self.transport.abort()


def has_unread(transport: asyncio.Transport) -> bool:
    """Whether bytes of the client, or its end, have arrived that the event loop has not read yet."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))
