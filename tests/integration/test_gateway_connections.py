"""Slow, silent and hostile connections are bounded, and do not keep others from being served."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from services.gateway.http.problems import Problem
from services.gateway.http.request import read_bytes
from services.gateway.http.response import HttpResponse, ResponseWriter
from services.gateway.http.server import Deadlines, GuardedServer
from services.gateway.store.shares import Shares

DEADLINES = Deadlines(header_s=0.4, idle_s=1.0, write_s=0.4)
BODY_S = 0.4
BODIES = Shares("bodies", 1_000_000_000, 1_000_000_000)
CUT_MAX_S = 3.0
SERVED_MAX_S = 2.0  # on a busy machine, too; one after the other, five hundred slow ones would take minutes
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"


async def serve(request: web.BaseRequest) -> ResponseWriter:
    try:
        body = await read_bytes(request, BODIES, "anybody", timeout_s=BODY_S)
    except Problem as refusal:
        return ResponseWriter(HttpResponse(refusal.status, b"{}", refusal.headers), "id")
    return ResponseWriter(HttpResponse(200, body * 20_000_000 if body == b"much" else b"{}"), "id")


def serve_unreadable(_: web.BaseRequest, status: int, _fault: BaseException | None) -> ResponseWriter:
    return ResponseWriter(HttpResponse(status, b"{}"), "id")


@asynccontextmanager
async def serving(connections_max: int = 1_000) -> AsyncGenerator[int]:
    server = GuardedServer(
        serve,
        serve_unreadable=serve_unreadable,
        refuse_connection=ResponseWriter(HttpResponse(503, b"{}"), "id").encoded,
        deadlines=DEADLINES,
        connections_max=connections_max,
    )
    runner = web.ServerRunner(server, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def until_cut(port: int, *pieces: bytes, gap_s: float = 0.0) -> tuple[bytes, float]:
    """What came back before the end, and how long after the last piece that was."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received, began = b"", time.monotonic()
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(gap_s)
        began = time.monotonic()
        async with asyncio.timeout(CUT_MAX_S):
            received = await reader.read()
    except (ConnectionResetError, BrokenPipeError, RuntimeError):  # uvloop: the handler is closed
        pass
    finally:
        writer.close()
    return received, time.monotonic() - began


@pytest.mark.parametrize(
    "pieces",
    [(), (b"POST",), (HEAD,), tuple(bytes([letter]) for letter in HEAD)],
    ids=["silent", "a word", "half a head", "byte by byte"],
)
async def test_a_head_that_never_ends_is_cut_off(pieces: tuple[bytes, ...]) -> None:
    async with serving() as port:
        received, waited_s = await until_cut(port, *pieces, gap_s=0.03)
        assert received == b""
        assert waited_s < 1.0


async def test_a_body_that_never_ends_is_answered_408_and_the_connection_closed() -> None:
    async with serving() as port:
        received, _ = await until_cut(port, HEAD + b"Content-Length: 100\r\n\r\n{", b'"a"', gap_s=0.1)
        assert received.startswith(b"HTTP/1.1 408")


async def test_an_idle_connection_may_be_used_again_and_is_closed_in_the_end() -> None:
    async with serving() as port:
        good = HEAD + b"Content-Length: 2\r\n\r\n{}"
        received, _ = await until_cut(port, good, good, gap_s=0.6)
        assert received.count(b"HTTP/1.1 200") == 2


async def test_a_request_that_meets_the_idle_limit_is_answered_or_sees_the_end_but_never_a_reset() -> None:
    """The end without an answer, on a connection that was used before, tells a client that it may send again."""
    seen = Counter[str]()

    async def at_the_limit(port: int, early_s: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"Content-Length: 2\r\n\r\n{}")
        await reader.readuntil(b"\r\n\r\n{}")
        await asyncio.sleep(DEADLINES.idle_s - early_s)
        try:
            writer.write(HEAD + b"Content-Length: 2\r\n\r\n{}")
            seen[(await reader.read(12)).decode() or "the end"] += 1
        except OSError as fault:
            seen[repr(fault)] += 1
        writer.close()

    async with serving() as port:
        await asyncio.gather(*(at_the_limit(port, early_s / 50_000) for early_s in range(-500, 500)))
    assert seen.keys() == {"HTTP/1.1 200", "the end"}, seen


async def test_a_second_request_that_never_ends_is_cut_off_too() -> None:
    async with serving() as port:
        received, waited_s = await until_cut(port, HEAD + b"Content-Length: 2\r\n\r\n{}", b"POST / HT", gap_s=0.1)
        assert received.count(b"HTTP/1.1") in {0, 1}
        assert waited_s < 0.9


async def test_a_client_that_does_not_read_its_answer_is_cut_off() -> None:
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1_024)
        writer.write(HEAD + b"Content-Length: 4\r\n\r\nmuch")
        # Silence is the input here, and on a busy machine the gateway may begin to answer late.
        await asyncio.sleep(4)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := await reader.read(65_536):
                received += len(piece)
        assert received < 60_000_000
        writer.close()


async def test_a_good_client_is_served_at_once_beside_five_hundred_slow_ones() -> None:
    async with serving() as port:
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(500)]
        for _, writer in slow:
            writer.write(b"POST / HT")
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"Content-Length: 2\r\n\r\n{}")
        assert (await reader.read(100)).startswith(b"HTTP/1.1 200")
        assert time.monotonic() - began < SERVED_MAX_S
        async with asyncio.timeout(CUT_MAX_S):
            ends = await asyncio.gather(*(stream.read() for stream, _ in slow), return_exceptions=True)
        assert all(end == b"" or isinstance(end, ConnectionResetError) for end in ends)
        for _, each in [*slow, (reader, writer)]:
            each.close()


async def test_one_connection_too_many_is_told_to_come_back() -> None:
    async with serving(connections_max=2) as port:
        kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        received, _ = await until_cut(port)
        assert received.startswith(b"HTTP/1.1 503 Service Unavailable")
        assert received.endswith(b"\r\n\r\n{}")
        for _, writer in kept:
            writer.close()


@pytest.mark.parametrize("chunks", [1, 16_384, 16_385, 16_386])
async def test_a_connection_goes_on_after_a_body_of_very_many_chunks(chunks: int) -> None:
    """At 16,385 aiohttp stops its parser in the middle of a body that ends in the same read."""
    many = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * chunks + b"0\r\n\r\n"
    async with serving() as port:
        received, _ = await until_cut(port, many, HEAD + b"Content-Length: 2\r\n\r\n{}", gap_s=0.3)
        assert received.count(b"HTTP/1.1 200") == 2, received[:200]
