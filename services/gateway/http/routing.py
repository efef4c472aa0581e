"""Routes, from which the OpenAPI document is made as well, and the router that finds the route of a request."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import unquote

from services.gateway.http.problems import Problem, RequestFault
from services.gateway.http.queries import Query
from services.gateway.http.request import Body, RequestContext
from services.gateway.http.response import HttpResponse
from shared.domain.api_keys import Scope

PATH_CHARACTERS_MAX: Final = 512

Shape: TypeAlias = type[object]
Handler: TypeAlias = Callable[[RequestContext], Awaitable[HttpResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """`scopes`: a key needs one of them; without any, the route needs no key. `writes`: it submits a command.

    `answers`: HTTP status → type of the JSON body, None when the body is empty or no JSON.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    scopes: tuple[Scope, ...] = ()
    body: type[Body] | None = None
    query: type[Query] | None = None
    answers: Mapping[int, Shape | None] = field(default_factory=dict[int, Shape | None])
    writes: bool = False


class RouteTable:
    """The routes of one module; `add` decorates their handlers."""

    def __init__(self) -> None:
        self.routes: list[Route] = []

    def add(
        self,
        method: str,
        path: str,
        *,
        scopes: tuple[Scope, ...] = (),
        body: type[Body] | None = None,
        query: type[Query] | None = None,
        answers: Mapping[int, Shape | None],
    ) -> Callable[[Handler], Handler]:
        """Decorates a handler, which then serves this route; its docstring begins with the summary. See Route."""

        def added(handler: Handler) -> Handler:
            route = Route(
                method=method,
                path=path,
                summary=(handler.__doc__ or "").partition(".")[0],
                handler=handler,
                scopes=scopes,
                body=body,
                query=query,
                answers=answers,
                writes=method != "GET",
            )
            self.routes.append(route)
            return handler

        return added


class Router:
    """Finds the route of a request: fixed paths by one look-up, the rest by patterns."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = routes
        self._fixed: dict[str, dict[str, Route]] = {}
        self.patterns: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        by_path: dict[str, dict[str, Route]] = {}
        for route in routes:
            by_path.setdefault(route.path, {})[route.method] = route
        for path, methods in by_path.items():
            if "{" in path:
                pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path))
                self.patterns.append((re.compile(pattern), methods))
            else:
                self._fixed[path] = methods

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """The route and the path's parameters. Raises Problem: not_found, or method_not_allowed with `Allow`."""
        methods = self._fixed.get(path)
        parameters: Mapping[str, str] = {}
        if methods is None:
            methods, parameters = self._match(path)
        route = methods.get(method) or (methods.get("GET") if method == "HEAD" else None)
        if route is None:
            allowed = ", ".join(sorted(methods) + (["HEAD"] if "GET" in methods else []))
            raise Problem(RequestFault.METHOD_NOT_ALLOWED, f"allowed here: {allowed}", headers={"Allow": allowed})
        return route, parameters

    def _match(self, path: str) -> tuple[dict[str, Route], Mapping[str, str]]:
        if len(path) <= PATH_CHARACTERS_MAX and path.isascii():
            for pattern, methods in self.patterns:
                if match := pattern.fullmatch(path):
                    return methods, {name: _unquoted(value) for name, value in match.groupdict().items()}
        raise Problem(RequestFault.NOT_FOUND, "there is no such route")


def _unquoted(segment: str) -> str:
    """The parameter that a segment of a path stands for. Raises Problem for what no name may hold: NUL, bad UTF-8."""
    try:
        text = unquote(segment, errors="strict")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise Problem(RequestFault.NOT_FOUND, "there is no such route")
    return text
