"""Every way in which a request ends is a problem that says all that a problem has to say."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import pytest
from aiohttp import HttpVersion, HttpVersion11, web
from multidict import CIMultiDict

from services.gateway.api.writes import preferred_wait_s
from services.gateway.http.dispatch import Dispatcher, takes_json
from services.gateway.http.problems import Problem, RequestFault
from services.gateway.http.request import RequestContext, ServerParts
from services.gateway.http.response import HttpResponse
from services.gateway.http.routing import Router, RouteTable
from services.gateway.metrics import Metrics
from services.gateway.store.shares import Shares
from services.gateway.usecases.state import AppState, Stopping
from shared.domain.ids import CommandId

OPERATION: Final = CommandId("01a22e8b-4dcb-8ba2-9f69-f2857a8ecf57")
TABLE: Final = RouteTable()


@TABLE.add("GET", "/breaks", answers={200: None})
async def breaks(context: RequestContext) -> HttpResponse:
    """Breaks after its command was sent."""
    context.operation = OPERATION
    raise RuntimeError("on purpose")


@TABLE.add("GET", "/things/{id}", answers={200: None})
async def thing(context: RequestContext) -> HttpResponse:
    """Takes any name."""
    return HttpResponse(200, context.path["id"].encode())


@dataclass(slots=True)
class Content:
    def at_eof(self) -> bool:
        return True


@dataclass(slots=True)
class Request:
    raw_path: str
    method: str = "GET"
    version: HttpVersion = HttpVersion11
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict[str])
    content: Content = field(default_factory=Content)
    content_length: int | None = None


@dataclass(slots=True)
class State:
    """What the dispatcher needs of an AppState."""

    metrics: Metrics
    stopping: Stopping = field(default_factory=Stopping)


@dataclass(slots=True)
class Server:
    """What the dispatcher needs of ServerParts."""

    requests: Shares = field(default_factory=lambda: Shares("requests", 2, 1))
    body_timeout_s: float = 1.0


@pytest.fixture
def dispatcher() -> Dispatcher:
    return Dispatcher(cast("AppState", State(Metrics())), cast("ServerParts", Server()), TABLE.routes)


def read(answer: bytes) -> tuple[str, Mapping[str, str], dict[str, object]]:
    """Status line, headers and the problem."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status, dict(line.split(": ", 1) for line in lines), json.loads(body)


async def served(dispatcher: Dispatcher, path: str) -> tuple[str, Mapping[str, str], dict[str, object]]:
    return read((await dispatcher.serve(cast("web.BaseRequest", Request(path)))).encoded())


async def test_a_write_that_breaks_after_it_was_sent_names_its_operation(dispatcher: Dispatcher) -> None:
    status, headers, problem = await served(dispatcher, "/breaks")
    assert (status, problem["code"]) == ("HTTP/1.1 500 Internal Server Error", "server_error")
    assert headers["Operation-Id"] == OPERATION


def test_a_connection_that_is_one_too_many_gets_a_whole_problem(dispatcher: Dispatcher) -> None:
    status, headers, problem = read(dispatcher.refuse_connection())
    assert status == "HTTP/1.1 503 Service Unavailable"
    assert (headers["Retry-After"], headers["Connection"]) == ("1", "close")
    assert problem.keys() == {"type", "title", "status", "detail", "code", "request_id"}
    assert problem["request_id"] == headers["X-Request-Id"]
    assert problem["code"] == "overloaded"


@pytest.mark.parametrize("name", ["%00", "a%00b", "%ff", "%ed%a0%80", "\udcff", "é", "a" * 600, ""])
def test_a_name_that_nothing_can_have_is_404_at_every_route(name: str) -> None:
    with pytest.raises(Problem) as refused:
        Router(TABLE.routes).find("GET", f"/things/{name}")
    assert refused.value.code is RequestFault.NOT_FOUND


@pytest.mark.parametrize("name", ["a", "%41", "%2F", "%20", "%E2%82%AC", "..", "a%0a"])
async def test_an_escaped_name_reaches_its_route(name: str) -> None:
    assert Router(TABLE.routes).find("GET", f"/things/{name}")[1]["id"]


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        *((each, True) for each in ("", "*/*", "application/json", "application/*", "text/html, */*;q=0.1")),
        *(
            (each, True)
            for each in ("Application/JSON;q=0.001", "application/problem+json", "text/*, application/json")
        ),
        *((each, True) for each in ("*/*;q=0, application/json", "application/json; charset=utf-8;q=1")),
        *((each, False) for each in ("application/json;q=0", "application/json; Q=0.000", "text/html", "*/*;q=0")),
        *((each, False) for each in ("application/json;q=0, */*", "application/*;q=0.0, */*;q=1", "application/jsonx")),
    ],
)
def test_the_most_specific_range_says_whether_json_is_accepted(accept: str, *, is_json: bool) -> None:
    assert takes_json(accept) is is_json


@pytest.mark.parametrize(
    ("preferences", "wait_s"),
    [
        ([], 5.0),
        (["respond-async"], 0.0),
        (["respond-async, wait=10"], 10.0),
        (["wait=10, respond-async"], 10.0),
        (["respond-async", "wait=10"], 10.0),
        (["wait=0"], 0.0),
        (["wait=7, wait=9"], 7.0),
        (["wait=99"], 30.0),
        (['return=minimal; x=1, Wait = "3"; a'], 3.0),
        (["wait=x, handling=lenient"], 5.0),
        (["wait=x, respond-async"], 0.0),
    ],
)
def test_wait_says_how_long_and_respond_async_alone_not_at_all(preferences: list[str], wait_s: float) -> None:
    assert preferred_wait_s(preferences) == wait_s
