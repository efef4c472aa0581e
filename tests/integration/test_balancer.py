"""The balancer sends a write to one gateway, says what is known when that fails, and shows strangers nothing inner."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from tests.integration.balancer import balancer, free_port

READS = ("GET", "HEAD", "OPTIONS")
WRITES = ("POST", "PUT", "PATCH", "DELETE")
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n"
READY = b'{"status":"ok"}'


@dataclass(slots=True)
class Upstream:
    """Stands for a gateway: notes the requests that it gets, and answers, or closes the connection at once.

    One that is silent reads on, and closes when the balancer does.
    """

    port: int = 0
    answer: bytes | None = OK + READY
    is_silent: bool = False
    heads: list[str] = field(default_factory=list[str])
    got: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        self.got.set()
        if self.is_silent:
            while await reader.read(65_536):
                pass
        elif self.answer is not None:
            writer.write(self.answer if not head.startswith("HEAD") else OK)
        writer.close()


@asynccontextmanager
async def upstreams(count: int) -> AsyncGenerator[list[Upstream]]:
    made = [Upstream() for _ in range(count)]
    servers = [await asyncio.start_server(each.serve, "127.0.0.1", 0) for each in made]
    for upstream, server in zip(made, servers, strict=True):
        upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        for server in servers:
            server.close()


@dataclass(slots=True)
class Told:
    status: int
    head: str
    body: bytes

    def problem(self, code: str) -> dict[str, object]:
        """The problem with this code, which says all that a problem has to say."""
        problem = cast("dict[str, object]", json.loads(self.body))
        assert "\r\nContent-Type: application/problem+json\r\n" in self.head, self.head
        assert {"type", "title", "status", "detail", "code", "request_id"} <= problem.keys()
        assert (problem["code"], problem["type"], problem["status"]) == (code, f"/problems/{code}", self.status)
        assert f"\r\nX-Request-Id: {problem['request_id']}\r\n" in f"{self.head}\r\n"
        return problem


async def asked(port: int, request: bytes) -> Told:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return Told(int(head.split()[1]), head.decode(), body)


def request(method: str, path: str = "/v1/things", *lines: str, body: bytes = b"") -> bytes:
    head = [f"{method} {path} HTTP/1.1", "Host: a", "Connection: close", *lines]
    is_framed = any(line.startswith(("Content-Length", "Transfer-Encoding")) for line in lines)
    has_length = not is_framed and (body or method in {"POST", "PUT", "PATCH"})
    length = [f"Content-Length: {len(body)}"] if has_length else []
    return "\r\n".join([*head, *length, "", ""]).encode() + body


async def test_a_write_that_reached_a_gateway_is_never_sent_to_a_second_one(tmp_path: Path) -> None:
    async with upstreams(2) as (first, second):
        first.answer = second.answer = None
        with balancer(tmp_path, [first.port, second.port]) as port:
            for method in WRITES:
                first.heads, second.heads = [], []
                told = await asked(port, request(method, body=b"{}" if method != "DELETE" else b""))
                assert [head.split()[0] for head in first.heads + second.heads] == [method]
                problem = told.problem("outcome_unknown")
                assert "request_id" in str(problem["detail"])
                assert f"X-Request-Id: {problem['request_id']}\r\n" in (first.heads + second.heads)[0]
            for method in READS:
                first.heads, second.heads = [], []
                told = await asked(port, request(method))
                assert (len(first.heads), len(second.heads), told.status) == (1, 1, 503)


async def test_a_gateway_that_refuses_connections_is_passed_over(tmp_path: Path) -> None:
    async with upstreams(1) as (there,):
        with balancer(tmp_path, [free_port(), there.port, free_port()]) as port:
            for method in (*READS, *WRITES) * 4:
                there.heads = []
                told = await asked(port, request(method, "/v1/things?a=b", "X-Request-Id: mine-1"))
                assert told.status == 200, told
                [head] = there.heads
                assert head.startswith(f"{method} /v1/things?a=b HTTP/1.1\r\n")
                assert "X-Request-Id: mine-1\r\n" in head
                assert "X-Forwarded-For: 127.0.0.1\r\n" in head
                assert "Balancer-Method" not in head


async def test_what_no_gateway_took_had_no_effect(tmp_path: Path) -> None:
    with balancer(tmp_path, [free_port(), free_port()]) as port:
        for method in ("GET", *WRITES):
            told = await asked(port, request(method, body=b"{}" if method != "GET" else b""))
            assert told.status == 503
            told.problem("unavailable")
            assert "\r\nRetry-After: 1" in told.head


async def test_a_write_that_one_gateway_refused_and_the_next_took_is_unknown_when_that_one_dies(tmp_path: Path) -> None:
    async with upstreams(1) as (dying,):
        dying.answer = None
        with balancer(tmp_path, [free_port(), free_port(), dying.port]) as port:
            for method in WRITES * 3:
                dying.heads = []
                told = await asked(port, request(method, body=b"{}" if method != "DELETE" else b""))
                if dying.heads:
                    told.problem("outcome_unknown")


REFUSED = (
    (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid_request"),
    (request("GET", "/", "X: " + "a" * 9_000), 400, "invalid_request"),
    (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 400, "invalid_request"),
    (b"NONSENSE\r\n\r\n", 400, "invalid_request"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "invalid_request"),
    (request("POST", "/", "Transfer-Encoding: of a kind"), 400, "invalid_request"),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n", 413, "too_large"),
    (request("TRACE"), 405, "method_not_allowed"),
    (request("GET", "/balancer/readiness"), 404, "not_found"),
    (b"GET / HTTP/7.1\r\nHost: a\r\n\r\n", 505, "http_version_not_supported"),
)


async def test_what_the_balancer_itself_refuses_is_a_problem(tmp_path: Path) -> None:
    with balancer(tmp_path, [free_port()]) as port:
        for sent, status, code in REFUSED:
            told = await asked(port, sent)
            assert told.status == status, (sent[:80], told)
            told.problem(code)


def chunked(method: str, size: int) -> bytes:
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (size, b"a" * size)
    return request(method, "/v1/things", "Transfer-Encoding: chunked") + body


async def test_every_method_that_is_refused_on_its_way_gets_a_problem(tmp_path: Path) -> None:
    async with upstreams(1) as (silent,):
        silent.is_silent = True
        with balancer(tmp_path, [silent.port], {"proxy_read_timeout 60s": "proxy_read_timeout 1s"}) as port:
            for method in WRITES:
                told = await asked(port, request(method, body=b"{}"))
                assert told.status == 504, (method, told)
                told.problem("outcome_unknown")
                for sent in (chunked(method, 1_100_000), request(method, "/v1/things", "Content-Length: 2000000")):
                    told = await asked(port, sent)
                    assert told.status == 413, (method, told)
                    told.problem("too_large")
                told = await asked(port, request(method, "/v1/things", "Transfer-Encoding: chunked") + b"nonsense\r\n")
                assert told.status == 400, (method, told)
                told.problem("invalid_request")


async def test_what_a_gateway_answers_passes_through_whatever_the_method(tmp_path: Path) -> None:
    async with upstreams(1) as (there,):
        with balancer(tmp_path, [there.port]) as port:
            for status in (400, 404, 405, 413, 500, 502, 503, 504):
                there.answer = b"HTTP/1.1 %d Of the gateway\r\nContent-Length: 4\r\nX-Of: it\r\n\r\nmine" % status
                for method in (*READS[::2], *WRITES):
                    told = await asked(port, request(method))
                    assert (told.status, told.body) == (status, b"mine"), (method, told)
                    assert told.head.endswith("\r\nX-Of: it")


async def test_a_head_as_large_as_any_that_is_taken_passes_whatever_the_method(tmp_path: Path) -> None:
    async with upstreams(1) as (there,):
        with balancer(tmp_path, [there.port]) as port:
            for method in (*READS, *WRITES):
                told = await asked(port, request(method, "/v1/things", *(f"X-{n}: {'a' * 8_000}" for n in range(4))))
                assert told.status == 200, (method, told)


async def test_a_source_has_at_most_its_share_of_requests_under_way(tmp_path: Path) -> None:
    settings = {"limit_conn sources 1024": "limit_conn sources 2"}
    async with upstreams(1) as (there,):
        there.is_silent = True
        with balancer(tmp_path, [there.port], settings) as port:
            waiting: list[asyncio.StreamWriter] = []
            for method in ("PUT", "GET"):
                there.got.clear()
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request(method))
                waiting.append(writer)
                await there.got.wait()
            for method in (*READS[::2], *WRITES):
                told = await asked(port, request(method))
                assert told.status == 429, (method, told)
                told.problem("rate_limited")
                assert "\r\nRetry-After: 1" in told.head
            there.is_silent = False
            _, other = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
            there.got.clear()
            other.write(request("GET"))
            await there.got.wait()
            for writer in (*waiting, other):
                writer.close()


async def test_a_body_reaches_the_gateway_as_it_comes(tmp_path: Path) -> None:
    """So a gateway sees the key of a request before anything of its body is kept."""
    async with upstreams(1) as (there,):
        there.answer = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
        with balancer(tmp_path, [there.port]) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /v1/things HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{")
            await there.got.wait()
            assert (await reader.readline()).startswith(b"HTTP/1.1 401")
            writer.close()


async def test_strangers_learn_whether_a_gateway_is_ready_and_nothing_else(tmp_path: Path) -> None:
    async with upstreams(1) as (there,):
        details = b'{"status":"unavailable","missing":{"postgres":"it does not answer"}}'
        with balancer(tmp_path, [there.port]) as port:
            told = await asked(port, request("GET", "/readyz"))
            assert (told.status, told.body) == (200, READY)
            there.answer = b"HTTP/1.1 503 No\r\nContent-Length: %d\r\n\r\n%s" % (len(details), details)
            told = await asked(port, request("GET", "/readyz"))
            assert (told.status, told.body) == (503, b'{"status":"unavailable"}')
    with balancer(tmp_path, [free_port()]) as port:
        told = await asked(port, request("GET", "/readyz"))
        assert (told.status, told.body) == (503, b'{"status":"unavailable"}')


async def test_readiness_is_only_read(tmp_path: Path) -> None:
    async with upstreams(1) as (there,):
        with balancer(tmp_path, [there.port]) as port:
            for path in ("/readyz", "/readyz?a=b", "/balancer/livez"):
                for method in ("GET", "HEAD"):
                    assert (await asked(port, request(method, path))).status == 200
                for method in ("OPTIONS", *WRITES):
                    told = await asked(port, request(method, path))
                    assert told.status == 405, (method, path, told)
                    told.problem("method_not_allowed")
                    assert told.head.endswith("\r\nAllow: GET, HEAD")
            told = await asked(port, request("GET", "/readyz", "Content-Length: 2000000"))
            told.problem("too_large")
