"""Responses of the network, in the shapes that its clients know."""

import itertools
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

from aiohttp import hdrs, web

from services.jobcoin_network.core.rows import RenderedRows

ROWS_AT_ONCE = 1_000
OK_BODY = b'{"status":"OK"}'


def json_error(status: int, error: str | Mapping[str, list[str]]) -> web.Response:
    """An error in the shape of every error here."""
    return json_body(status, json.dumps({"error": error}, separators=(",", ":")).encode())


def json_body(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> web.Response:
    """A response whose JSON is rendered already."""
    return web.Response(status=status, body=body, headers=headers, content_type="application/json")


def whole_list(rows: RenderedRows, headers: Mapping[str, str]) -> web.Response:
    """All rows, sent piece by piece, so that no reader costs the memory of a whole list."""
    size = rows.list_bytes()
    sized = {**headers, hdrs.CONTENT_LENGTH: str(size), hdrs.CONTENT_TYPE: "application/json"}
    return web.Response(body=_one_by_one(rows.list_chunks(size)), headers=sized)


def html(status: int, text: str) -> web.Response:
    """A page."""
    return web.Response(status=status, text=text, content_type="text/html")


def listed(head: bytes, rows: Iterable[bytes], tail: bytes) -> web.Response:
    """Rows between head and tail; many of them are sent piece by piece."""
    left = iter(rows)
    first = list(itertools.islice(left, ROWS_AT_ONCE))
    start = head + b",".join(first)
    if len(first) < ROWS_AT_ONCE:
        return json_body(200, start + tail)
    pieces = itertools.chain([start], _rest(left), [tail])
    return web.Response(body=_one_by_one(pieces), headers={hdrs.CONTENT_TYPE: "application/json"})


def _rest(left: Iterator[bytes]) -> Iterator[bytes]:
    while batch := list(itertools.islice(left, ROWS_AT_ONCE)):
        yield b"," + b",".join(batch)


async def _one_by_one(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
