"""Serves every request: route, limits, caller, handler, response. Every error becomes a problem (RFC 9457)."""

import itertools
import os
import re
import time
from bisect import bisect_left
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog
from aiohttp import HttpVersion10, HttpVersion11, web

from services.gateway.http.auth import require_scope
from services.gateway.http.problems import Problem, RequestFault, invalid_field, problem_code, share_exceeded
from services.gateway.http.request import NOBODY, RequestContext, ServerParts
from services.gateway.http.response import JSON, PROBLEM_JSON, HttpResponse, ResponseWriter
from services.gateway.http.routing import Route, Router
from services.gateway.http.sources import source_of
from services.gateway.metrics import DURATION_BUCKETS_S, RouteMetrics
from services.gateway.store.database import DatabaseUnavailable, TooManyStatements
from services.gateway.store.shares import SERVING, Serving, ShareExceeded
from services.gateway.usecases.faults import (
    CommandNotSent,
    InvalidField,
    NotAllowed,
    NotFinal,
    NotFound,
    TooManyCommands,
    WrongState,
)
from services.gateway.usecases.state import AppState
from shared.runtime.compact_json import compact_json

log = structlog.get_logger()

SANE_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
SERVER_ERRORS: Final = 500
NO_ROUTE: Final = "(none)"
RETRY: Final = {"Retry-After": "1"}
READS: Final = frozenset({"GET", "HEAD"})


class Dispatcher:
    """Serves every request of one gateway."""

    def __init__(self, state: AppState, server: ServerParts, routes: Sequence[Route]) -> None:
        self._state = state
        self._server = server
        self._router = Router(routes)
        metrics = state.metrics
        self._metrics = {(route.method, route.path): metrics.of_route(route.method, route.path) for route in routes}
        self._no_route = metrics.of_route(NO_ROUTE, NO_ROUTE)
        prefix = os.urandom(6).hex()
        self._request_ids = (f"{prefix}-{number:x}" for number in itertools.count(1))
        self._in_flight = 0
        metrics.requests_in_flight.set_function(lambda: self._in_flight)

    async def serve(self, request: web.BaseRequest) -> ResponseWriter:
        """Answers one request; every error becomes a problem, except ConnectionError: nobody is there to answer."""
        began_s = time.perf_counter()
        request_id = self._request_id(request)
        path, _, query = request.raw_path.partition("?")
        counts = self._no_route
        context: RequestContext | None = None
        self._in_flight += 1
        try:
            route, parameters = self._router.find(request.method, path)
            counts = self._metrics[route.method, route.path]
            context = RequestContext(self._state, self._server, request, route.path, parameters, query)
            response = await self._handle(context, route)
        except ConnectionError:
            raise  # the client went away
        except Exception as fault:
            problem = _problem_of(fault)
            if problem is None:
                log.exception("request.failed", method=request.method, path=path[:200], request_id=request_id)
                # Its command may have been sent: the client can ask for the outcome.
                headers = {} if context is None or context.operation is None else {"Operation-Id": context.operation}
                problem = Problem(RequestFault.SERVER_ERROR, headers=headers)
            response = self._problem(problem, request.method, path, request_id)
        finally:
            self._in_flight -= 1
        _note(counts, response.status, time.perf_counter() - began_s)
        is_write = context is not None and context.caller is not NOBODY and request.method not in READS
        writer = ResponseWriter(response, request_id, self._state.instants.position if is_write else None)
        if self._state.stopping.has_begun:
            writer.force_close()
        return writer

    def serve_unreadable(self, request: web.BaseRequest, status: int, fault: BaseException | None) -> ResponseWriter:
        """Answers a request that aiohttp could not parse, or (`status` 500 and above) that failed outside `serve`."""
        request_id = self._request_id(request)
        problem = Problem(RequestFault.INVALID_REQUEST, "this is not a valid HTTP request")
        if status >= SERVER_ERRORS:
            problem = Problem(RequestFault.SERVER_ERROR)
            log.error("request.broke", fault=repr(fault), request_id=request_id)
        response = self._problem(problem, request.method, "", request_id)
        _note(self._no_route, response.status, 0.0)
        return ResponseWriter(response, request_id)

    def refuse_connection(self) -> bytes:
        """The whole answer to a connection that is one too many."""
        problem = Problem(RequestFault.OVERLOADED, "too many connections are open", headers=RETRY)
        request_id = next(self._request_ids)
        writer = ResponseWriter(self._problem(problem, NO_ROUTE, "", request_id), request_id)
        writer.force_close()
        return writer.encoded()

    async def _handle(self, context: RequestContext, route: Route) -> HttpResponse:
        request = context.request
        if request.version not in {HttpVersion11, HttpVersion10}:
            raise Problem(RequestFault.HTTP_VERSION_NOT_SUPPORTED, headers={"Connection": "close"})
        if self._in_flight > self._server.requests.together_max:
            raise Problem(RequestFault.OVERLOADED, "too many requests are under way", headers=RETRY)
        if route.scopes:
            context.caller = await self._server.keys.authenticate(
                request.headers.getall("Authorization", []), partial(source_of, request, self._server.trusted)
            )
            require_scope(context.caller, route.scopes)
            if not takes_json(request.headers.get("Accept", "*/*")):
                raise Problem(RequestFault.NOT_ACCEPTABLE)
        principal = context.caller.principal
        SERVING.set(Serving(principal, is_write=route.writes))
        self._server.requests.take(principal)
        try:
            if route.body is None:
                await context.refuse_body()
            if context.query_text and route.query is None:
                raise Problem(RequestFault.INVALID_REQUEST, "this request takes no query parameters")
            return await route.handler(context)
        finally:
            self._server.requests.give_back(principal)

    def _problem(self, problem: Problem, method: str, path: str, request_id: str) -> HttpResponse:
        if problem.status != SERVER_ERRORS:
            log.info(
                "request.refused",
                code=problem.code.value,
                status=problem.status,
                method=method,
                path=path[:200],
                request_id=request_id,
                operation_id=problem.headers.get("Operation-Id"),
            )
        self._state.metrics.problems.labels(problem.code.value).inc()
        return HttpResponse(problem.status, compact_json(problem.body(request_id)), problem.headers, PROBLEM_JSON)

    def _request_id(self, request: web.BaseRequest) -> str:
        given = request.headers.get("X-Request-Id")
        if given is not None and SANE_REQUEST_ID.fullmatch(given):
            return given
        return next(self._request_ids)


def _problem_of(fault: Exception) -> Problem | None:
    """The problem that the client gets; None for an exception that nobody expects."""
    match fault:
        case Problem():
            return fault
        case NotFound():
            return Problem(RequestFault.NOT_FOUND, f"there is no such {fault}")
        case NotAllowed():
            return Problem(RequestFault.FORBIDDEN, str(fault))
        case WrongState():
            return Problem(RequestFault.WRONG_STATE, str(fault))
        case InvalidField():
            return invalid_field(fault.field, fault.message, problem_code(fault.code))
        case CommandNotSent() | NotFinal():
            return Problem(RequestFault.UNAVAILABLE, str(fault), headers=RETRY)
        case TooManyCommands() | TooManyStatements():
            return Problem(RequestFault.OVERLOADED, str(fault), headers=RETRY)
        case ShareExceeded():
            return share_exceeded(fault, {})
        case DatabaseUnavailable():
            log.warning("database.unavailable", fault=str(fault))
            return Problem(RequestFault.UNAVAILABLE, "the database does not answer", headers=RETRY)
        case _:
            return None


def _note(counts: RouteMetrics, status: int, duration_s: float) -> None:
    """Counts one answer, in plain numbers since every request pays for it; /metrics makes metrics of them when read."""
    counts.by_status[status] = counts.by_status.get(status, 0) + 1
    counts.duration_s += duration_s
    counts.by_duration[bisect_left(DURATION_BUCKETS_S, duration_s)] += 1


def takes_json(accept: str) -> bool:
    """Whether an Accept header (RFC 9110) allows JSON: of the ranges that cover it, the most specific one decides."""
    if accept in {"*/*", JSON, ""}:
        return True
    ranges: dict[str, bool] = {}
    for media_range in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in media_range.split(";"))
        is_refused = any(each.startswith("q=") and not each[2:].strip("0.") for each in parameters)
        ranges[kind] = ranges.get(kind, False) or not is_refused
    return next((ranges[kind] for kind in (JSON, "application/*", "*/*", PROBLEM_JSON) if kind in ranges), False)
