"""Bad input never hurts: a problem, no server error, no hang, nothing written, and the next good request is served."""

import asyncio
import gzip
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from tests.integration.bad_inputs import AMOUNTS, BODIES, GOOD, HEAD, JSON_HEAD, MEDIA, PATHS, WIRE
from tests.integration.conftest import Served
from tests.integration.gateway import Client

ANSWER_MAX_S = 5
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def exchange(client: Client, sent: bytes, *, wait_s: float = ANSWER_MAX_S) -> bytes:
    """What comes back on a connection of its own, up to the first whole answer or the end."""
    parts = urlsplit(client.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    received = b""
    try:
        writer.write(sent)
        async with asyncio.timeout(wait_s):
            while not is_whole(received) and (more := await reader.read(65_536)):
                received += more
    except (ConnectionResetError, BrokenPipeError):
        pass
    finally:
        writer.close()
    return received


def is_whole(received: bytes) -> bool:
    head, end, body = received.removeprefix(CONTINUE).partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length[1])


def problem_in(received: bytes) -> Mapping[str, object]:
    """The problem that an answer holds."""
    head, _, body = received.removeprefix(CONTINUE).partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, received
    problem = json.loads(body)
    assert head.split(b" ")[1] == str(problem["status"]).encode()
    assert b"Traceback" not in body
    return problem


@pytest_asyncio.fixture
async def unharmed(served: Served) -> AsyncIterator[Client]:
    """The gateway; afterwards the journal has no more operations than before, and a good request is served at once."""
    count = "SELECT count(*) FROM ledger.operations"
    before = await served.stack.execute(count)
    yield served.client
    began = time.monotonic()
    await served.client.get("/v1/assets")
    assert time.monotonic() - began < 2
    assert await served.stack.execute(count) == before


def request(method: str, path: str, body: bytes = b"", *, head: str = JSON_HEAD) -> bytes:
    return f"{method} {path} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def with_amount(amount: str) -> bytes:
    """A transfer whose amount is this raw JSON."""
    return b'{"source":"a","destination":"b","asset":"USD","amount":' + amount.encode() + b"}"


@pytest.mark.parametrize("amount", AMOUNTS, ids=lambda amount: amount[:24])
@pytest.mark.parametrize("path", ["/v1/transfers"])
async def test_an_amount_that_is_none_is_refused(unharmed: Client, path: str, amount: str) -> None:
    problem = problem_in(await exchange(unharmed, request("POST", path, with_amount(amount))))
    codes = {"invalid_request", "amount_scale", "amount_not_positive"}
    assert problem["code"] in codes
    if problem["code"] == "invalid_request" and "errors" in problem:
        errors = problem["errors"]
        assert isinstance(errors, list)
        assert errors[0]["field"] == "amount"


@pytest.mark.parametrize(
    ("amount", "status", "code"),
    [
        ('"0.001"', 400, "amount_scale"),
        ('"0"', 400, "amount_not_positive"),
        ("1", 400, "invalid_request"),
    ],
)
async def test_what_is_wrong_with_an_amount_has_its_own_code(
    unharmed: Client, amount: str, status: int, code: str
) -> None:
    problem = problem_in(await exchange(unharmed, request("POST", "/v1/transfers", with_amount(amount))))
    assert (problem["status"], problem["code"]) == (status, code)


@pytest.mark.parametrize("case", BODIES)
@pytest.mark.parametrize("path", ["/v1/transfers", "/v1/accounts", "/v1/assets", "/v1/mixes"])
async def test_a_body_that_is_no_good_is_refused(unharmed: Client, path: str, case: str) -> None:
    problem = problem_in(await exchange(unharmed, request("POST", path, BODIES[case])))
    assert (problem["status"], problem["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("case", MEDIA)
async def test_headers_that_do_not_fit_are_refused(unharmed: Client, case: str) -> None:
    head, status = MEDIA[case]
    body = json.dumps(GOOD).encode()
    assert problem_in(await exchange(unharmed, request("POST", "/v1/transfers", body, head=head)))["status"] == status


@pytest.mark.parametrize("body", [gzip.compress(b"0" * 50_000_000), gzip.compress(b"{}")[:-4]], ids=["bomb", "cut"])
async def test_a_compressed_body_is_never_unpacked(unharmed: Client, body: bytes) -> None:
    head = JSON_HEAD + "Content-Encoding: gzip\r\n"
    assert problem_in(await exchange(unharmed, request("POST", "/v1/transfers", body, head=head)))["status"] == 415


@pytest.mark.parametrize("case", WIRE)
async def test_what_is_not_http_is_refused_and_smuggles_nothing(unharmed: Client, case: str) -> None:
    problem = problem_in(await exchange(unharmed, WIRE[case]))
    assert problem["status"] in {400, 505}


@pytest.mark.parametrize("case", PATHS)
async def test_a_path_or_query_that_is_no_good_is_refused(unharmed: Client, case: str) -> None:
    path, status = PATHS[case]
    problem = problem_in(await exchange(unharmed, request("GET", path, head=HEAD)))
    assert problem["status"] == status


@pytest.mark.parametrize("method", ["PUT", "TRACE", "CONNECT", "OPTIONS", "PROPFIND"])
async def test_a_method_that_is_not_allowed_is_told_which_are(unharmed: Client, method: str) -> None:
    received = await exchange(unharmed, request(method, "/v1/accounts", head=HEAD))
    if method == "CONNECT":
        assert problem_in(received)["status"] in {400, 404, 405}
        return
    assert problem_in(received)["code"] == "method_not_allowed"
    assert b"Allow: GET, POST, HEAD" in received


async def test_a_body_over_the_limit_is_refused_before_it_is_read(unharmed: Client) -> None:
    head = f"POST /v1/transfers HTTP/1.1\r\n{JSON_HEAD}Content-Length: 1048577\r\n\r\n".encode()
    assert problem_in(await exchange(unharmed, head))["status"] == 413
    chunks = b"".join(b"10000\r\n" + b"a" * 65_536 + b"\r\n" for _ in range(17))
    sent = f"POST /v1/transfers HTTP/1.1\r\n{JSON_HEAD}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks
    assert problem_in(await exchange(unharmed, sent))["status"] == 413


async def test_a_client_that_expects_to_be_told_to_go_on_is_told(unharmed: Client) -> None:
    sent = request("POST", "/v1/transfers", b"[]", head=JSON_HEAD + "Expect: 100-continue\r\n")
    received = await exchange(unharmed, sent)
    assert received.startswith(CONTINUE)
    assert problem_in(received)["status"] == 400


async def test_the_request_id_is_taken_over_only_if_it_is_sane(unharmed: Client) -> None:
    taken = await exchange(unharmed, request("GET", "/nope", head=HEAD + "X-Request-Id: abc-1\r\n"))
    assert b"X-Request-Id: abc-1\r\n" in taken
    for bad in ("a b", "a" * 129, "<script>", "é"):
        received = await exchange(unharmed, request("GET", "/nope", head=HEAD + f"X-Request-Id: {bad}\r\n"))
        assert bad.encode() not in received


async def test_five_hundred_requests_in_one_go_are_answered_in_order(unharmed: Client) -> None:
    parts = urlsplit(unharmed.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    for number in range(500):
        writer.write(request("GET", "/livez", head=HEAD + f"X-Request-Id: n{number}\r\n"))
    received = b""
    async with asyncio.timeout(20):
        while received.count(b'{"status":"ok"}') < 500:
            received += await reader.read(65_536)
    writer.close()
    assert re.findall(rb"X-Request-Id: n(\d+)", received) == [b"%d" % number for number in range(500)]
