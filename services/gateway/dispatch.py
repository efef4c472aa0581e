"""The road of every request: route, caller, limits, handler, answer. Whatever goes wrong on it becomes a problem."""

import itertools
import os
import re
import time
from collections.abc import Sequence
from typing import Final

import structlog
from aiohttp import HttpVersion10, HttpVersion11, web

from services.gateway.commands import accepted
from services.gateway.context import Gateway
from services.gateway.problems import PROBLEM, Fault, Refusal
from services.gateway.routes import Call, Route, Router
from services.gateway.store.database import DatabaseUnavailable
from services.gateway.web.answers import PROBLEM_JSON, Answer, Response
from services.gateway.web.bodies import refuse_body

log = structlog.get_logger()

SANE_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
SERVER_ERRORS: Final = 500
NO_ROUTE: Final = "(none)"


class Dispatcher:
    """Serves every request of one gateway."""

    def __init__(self, gateway: Gateway, routes: Sequence[Route]) -> None:
        self._gateway = gateway
        self._router = Router(routes)
        metrics = gateway.metrics
        self._metrics = {(route.method, route.path): metrics.of_route(route.method, route.path) for route in routes}
        self._no_route = metrics.of_route(NO_ROUTE, NO_ROUTE)
        self._prefix = os.urandom(6).hex()
        self._numbers = itertools.count(1)
        self._in_flight = 0
        self._in_flight_max = gateway.settings.requests_in_flight_max
        metrics.requests_in_flight.set_function(lambda: self._in_flight)

    async def serve(self, request: web.BaseRequest) -> Response:
        """Answers one request, always."""
        began = time.perf_counter()
        request_id = self._request_id(request)
        path, _, query = request.raw_path.partition("?")
        counts = self._no_route
        call: Call | None = None
        self._in_flight += 1
        try:
            route, parameters = self._router.find(request.method, path)
            counts = self._metrics[route.method, route.path]
            call = Call(self._gateway, request, request_id, route, parameters, query)
            answer = await self._answer(call)
        except Refusal as refusal:
            answer = self._problem(refusal, request, path, request_id)
        except DatabaseUnavailable as fault:
            answer = self._without_database(fault, call, request, path, request_id)
        except ConnectionError:
            raise  # the client went away
        except Exception:
            log.exception("request.failed", method=request.method, path=path[:200], request_id=request_id)
            answer = self._problem(Refusal(Fault.SERVER_ERROR), request, path, request_id)
        finally:
            self._in_flight -= 1
        counts.note(answer.status, time.perf_counter() - began)
        return answer.response(request_id)

    def troubled(self, request: web.BaseRequest, status: int, fault: BaseException | None) -> Response:
        """For what never became a request, or broke outside `serve`."""
        request_id = self._request_id(request)
        code = Fault.SERVER_ERROR if status >= SERVER_ERRORS else Fault.INVALID_REQUEST
        if code is Fault.SERVER_ERROR:
            log.error("request.broke", fault=repr(fault), request_id=request_id)
        refusal = Refusal(code, "" if code is Fault.SERVER_ERROR else "this is not a valid HTTP request")
        answer = self._problem(refusal, request, "", request_id)
        self._no_route.note(answer.status, 0.0)
        return answer.response(request_id)

    async def _answer(self, call: Call) -> Answer:
        request, route, gateway = call.request, call.route, self._gateway
        if request.version not in {HttpVersion11, HttpVersion10}:
            raise Refusal(Fault.HTTP_VERSION_NOT_SUPPORTED, headers={"Connection": "close"})
        if self._in_flight > self._in_flight_max:
            raise Refusal(Fault.OVERLOADED, "too many requests are under way", headers={"Retry-After": "1"})
        if route.scope is not None:
            call.caller = await gateway.keys.authenticate(request.headers.getall("Authorization", []))
            call.caller.require(route.scopes)
            if not _takes_json(request.headers.get("Accept", "*/*")):
                raise Refusal(Fault.NOT_ACCEPTABLE)
        if route.body is None:
            await refuse_body(request, timeout_s=gateway.settings.body_timeout_s)
        if call.query_text and route.query is None:
            raise Refusal(Fault.INVALID_REQUEST, "this request takes no query parameters")
        return await route.handler(call)

    def _without_database(
        self, fault: DatabaseUnavailable, call: Call | None, request: web.BaseRequest, path: str, request_id: str
    ) -> Answer:
        log.warning("database.unavailable", fault=str(fault), request_id=request_id)
        if call is not None and call.sent is not None:
            return accepted(call.sent)
        refusal = Refusal(Fault.UNAVAILABLE, "the database does not answer", headers={"Retry-After": "1"})
        return self._problem(refusal, request, path, request_id)

    def _problem(self, refusal: Refusal, request: web.BaseRequest, path: str, request_id: str) -> Answer:
        if refusal.status != SERVER_ERRORS:
            log.info(
                "request.refused",
                code=refusal.code.value,
                status=refusal.status,
                method=request.method,
                path=path[:200],
                request_id=request_id,
                operation_id=refusal.headers.get("Operation-Id"),
            )
        self._gateway.metrics.problems.labels(refusal.code.value).inc()
        body = PROBLEM.dump_json(refusal.body(request_id))
        return Answer(refusal.status, body, refusal.headers, PROBLEM_JSON)

    def _request_id(self, request: web.BaseRequest) -> str:
        given = request.headers.get("X-Request-Id")
        if given is not None and SANE_REQUEST_ID.fullmatch(given):
            return given
        return f"{self._prefix}-{next(self._numbers):x}"


def _takes_json(accept: str) -> bool:
    """Whether an Accept header allows JSON, as media ranges; weights of 0 are honoured."""
    if accept == "*/*" or "application/json" in accept:
        return True
    for media_range in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in media_range.split(";"))
        if kind in {"*/*", "application/*", "", PROBLEM_JSON} and "q=0" not in parameters:
            return True
    return False
