"""Responses, each written in one piece: aiohttp's own class goes through its headers three times."""

import time
from collections.abc import Mapping
from dataclasses import field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from aiohttp import HttpVersion11, web

from shared.domain.values import value
from shared.runtime.compact_json import compact_json

JSON: Final = "application/json"
PROBLEM_JSON: Final = "application/problem+json"
NO_CONTENT: Final = 204
POSITION_HEADER: Final = "Tellerline-Position"

STATUS_LINES: Final = {int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n" for status in HTTPStatus}
# Headers of every response that does not set them itself.
DEFAULT_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "tellerline"}
DEFAULT_LINES: Final = "".join(f"{name}: {value}\r\n" for name, value in DEFAULT_HEADERS.items())


@value
class HttpResponse:
    """Status, body and the headers that are not on every response."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    media_type: str = JSON


def json_response(status: int, body: object) -> HttpResponse:
    """The body, which is a TypedDict, as JSON."""
    return HttpResponse(status, compact_json(body))


def list_response(rows: object, following: str | None, position: str) -> HttpResponse:
    """A page of a list: its rows, the cursor of the next page, and the position from which the list can be followed."""
    return HttpResponse(200, compact_json({"data": rows, "next": following}), {POSITION_HEADER: position})


class ResponseWriter:
    """Writes one response. aiohttp asks it for `prepare`, `write_eof` and `keep_alive`.

    `position`: of the ledger, on the answer to a write.
    """

    __slots__ = ("_keep_alive", "_position", "_request_id", "_response")

    def __init__(self, response: HttpResponse, request_id: str, position: str | None = None) -> None:
        self._response = response
        self._request_id = request_id
        self._position = position
        self._keep_alive = "Connection" not in response.headers

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open after it."""
        return self._keep_alive

    def force_close(self) -> None:
        """Closes the connection after this response."""
        self._keep_alive = False

    async def prepare(self, request: web.BaseRequest) -> None:
        """Writes head and body at once; waits while the send buffer is full because the client does not read."""
        self._keep_alive = self._keep_alive and request.keep_alive
        written = self.encoded(is_http_1_1=request.version == HttpVersion11, has_body=request.method != "HEAD")
        await request.writer.write(written)
        await request.writer.drain()

    async def write_eof(self) -> None:
        """Does nothing: `prepare` has written the whole response."""

    def encoded(self, *, is_http_1_1: bool = True, has_body: bool = True) -> bytes:
        """Head and body as they are sent."""
        response = self._response
        lines = [_line(name, value) for name, value in response.headers.items() if name != "Connection"]
        if self._position is not None:
            lines.append(f"{POSITION_HEADER}: {self._position}\r\n")
        if response.body:
            lines.append(f"Content-Type: {response.media_type}\r\n")
        if response.status != NO_CONTENT:
            lines.append(f"Content-Length: {len(response.body)}\r\n")
        if not self._keep_alive:
            lines.append("Connection: close\r\n")
        elif not is_http_1_1:
            lines.append("Connection: keep-alive\r\n")
        if response.headers.keys().isdisjoint(DEFAULT_HEADERS):
            lines.append(DEFAULT_LINES)
        else:
            lines += [_line(name, value) for name, value in DEFAULT_HEADERS.items() if name not in response.headers]
        head = (
            f"{STATUS_LINES[response.status]}Date: {_date(int(time.time()))}\r\n"
            f"X-Request-Id: {self._request_id}\r\n{''.join(lines)}\r\n"
        ).encode()
        return head + response.body if has_body else head


def _line(name: str, value: str) -> str:
    if not value.isprintable():
        raise ValueError(f"the header {name} would hold more than text")
    return f"{name}: {value}\r\n"


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
