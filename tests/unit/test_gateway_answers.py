"""An answer leaves in one piece, framed as HTTP says, and holds no header that somebody smuggled in."""

from dataclasses import dataclass, field
from typing import cast

import pytest
from aiohttp import HttpVersion, HttpVersion10, HttpVersion11, web

from services.gateway.http.instants import instant_text
from services.gateway.http.response import HttpResponse, ResponseWriter


@dataclass(slots=True)
class Writer:
    pieces: list[bytes] = field(default_factory=list[bytes])

    drained: int = 0

    async def write(self, piece: bytes) -> None:
        self.pieces.append(piece)

    async def drain(self) -> None:
        self.drained = len(self.pieces)


@dataclass(slots=True)
class Request:
    method: str = "POST"
    version: HttpVersion = HttpVersion11
    keep_alive: bool = True
    writer: Writer = field(default_factory=Writer)


async def written(answer: HttpResponse, request: Request | None = None) -> tuple[str, dict[str, str], bytes, bool]:
    """Status line, headers, body, and whether the connection stays open."""
    request = request or Request()
    response = ResponseWriter(answer, "id-1")
    await response.prepare(cast("web.BaseRequest", request))
    await response.write_eof()
    [piece] = request.writer.pieces
    assert request.writer.drained == 1  # a client that does not read is waited for
    head, _, body = piece.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines)
    return status, headers, body, response.keep_alive


async def test_an_answer_is_one_piece_with_its_length_and_the_usual_headers() -> None:
    status, headers, body, stays = await written(HttpResponse(201, b'{"a":1}', {"Operation-Id": "x"}))
    assert status == "HTTP/1.1 201 Created"
    assert body == b'{"a":1}'
    assert stays
    assert headers.pop("Date").endswith(" GMT")
    assert headers == {
        "X-Request-Id": "id-1",
        "Operation-Id": "x",
        "Content-Type": "application/json",
        "Content-Length": "7",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Server": "tellerline",
    }


async def test_an_answer_may_say_otherwise_than_is_usual() -> None:
    _, headers, _, _ = await written(HttpResponse(200, b"x", {"Cache-Control": "max-age=60"}, "text/plain"))
    assert headers["Cache-Control"] == "max-age=60"
    assert headers["Content-Type"] == "text/plain"
    assert headers["Server"] == "tellerline"


async def test_a_head_has_the_length_of_what_a_get_would_send_and_no_body() -> None:
    _, headers, body, _ = await written(HttpResponse(200, b"four"), Request(method="HEAD"))
    assert headers["Content-Length"] == "4"
    assert body == b""


async def test_no_content_has_neither_length_nor_type() -> None:
    status, headers, body, _ = await written(HttpResponse(204))
    assert status == "HTTP/1.1 204 No Content"
    assert headers.keys().isdisjoint({"Content-Length", "Content-Type"})
    assert body == b""


async def test_an_empty_answer_that_may_have_a_body_says_that_it_has_none() -> None:
    assert (await written(HttpResponse(404)))[1]["Content-Length"] == "0"


@pytest.mark.parametrize(
    ("version", "asked", "closes", "told"),
    [
        (HttpVersion11, True, False, None),
        (HttpVersion11, True, True, "close"),
        (HttpVersion11, False, False, "close"),
        (HttpVersion10, True, False, "keep-alive"),
        (HttpVersion10, True, True, "close"),
        (HttpVersion10, False, False, "close"),
    ],
)
async def test_it_says_whether_the_connection_stays_open(
    version: HttpVersion, *, asked: bool, closes: bool, told: str | None
) -> None:
    answer = HttpResponse(200, b"x", {"Connection": "close"} if closes else {})
    _, headers, _, stays = await written(answer, Request(version=version, keep_alive=asked))
    assert headers.get("Connection") == told
    assert stays is (asked and not closes)


async def test_a_forced_close_is_announced_by_connection_close() -> None:
    request = Request()
    response = ResponseWriter(HttpResponse(400, b"x"), "id-1")
    response.force_close()
    await response.prepare(cast("web.BaseRequest", request))
    assert b"\r\nConnection: close\r\n" in request.writer.pieces[0]
    assert not response.keep_alive


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\0b", "a\x7fb"])
async def test_a_header_that_is_more_than_a_line_of_text_is_refused_before_anything_is_written(value: str) -> None:
    request = Request()
    with pytest.raises(ValueError, match="more than text"):
        await ResponseWriter(HttpResponse(200, b"x", {"Location": value}), "id-1").prepare(
            cast("web.BaseRequest", request)
        )
    assert request.writer.pieces == []


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_764_000_000_000_001, "2025-11-24T16:00:00.000001Z"),
        (1_764_000_000_999_999, "2025-11-24T16:00:00.999999Z"),
    ],
)
def test_instants_are_rfc_3339_in_utc_with_microseconds(microseconds: int, text: str) -> None:
    assert instant_text(microseconds) == text
