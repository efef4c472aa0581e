"""Routes: what each takes, gives and needs. The router and the OpenAPI document both read them."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import unquote

from aiohttp import web

from services.gateway.auth import Caller
from services.gateway.context import Gateway
from services.gateway.problems import Fault, Refusal
from services.gateway.store.transactions import Reader
from services.gateway.web.answers import Answer
from services.gateway.web.bodies import Body, Model, read_body
from services.gateway.web.queries import Query, QueryModel, parse_query
from shared.api_keys import Scope
from shared.ids import Principal
from shared.messages import Command, MixCreate

NOBODY: Final = Caller("", Principal(""), frozenset(), admin=False)
PATH_CHARACTERS_MAX: Final = 512


@dataclass(slots=True, eq=False)
class Call:
    """One request on its way through a handler."""

    gateway: Gateway
    request: web.BaseRequest
    request_id: str
    route: "Route"
    path: Mapping[str, str]
    query_text: str
    caller: Caller = NOBODY
    # Set once a command left: from then on a failure of ours may not pass for one without effect.
    sent: Command | MixCreate | None = None

    async def body(self, model: type[Model]) -> Model:
        """The body, read and checked. Raises Refusal."""
        return await read_body(self.request, model, timeout_s=self.gateway.settings.body_timeout_s)

    def query(self, model: type[QueryModel]) -> QueryModel:
        """The query, checked. Raises Refusal."""
        return parse_query(self.query_text, model)

    @property
    def reader(self) -> Reader:
        """On whose behalf the journal is read."""
        return Reader(self.caller.principal, self.caller.admin, self.gateway.partitions)


Shape: TypeAlias = type[object]
Handler: TypeAlias = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """`scope` None: open to everybody; a set: any of these will do.

    `answers` maps a status to the type of its JSON body, None for none.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    scope: Scope | frozenset[Scope] | None = None
    body: type[Body] | None = None
    query: type[Query] | None = None
    answers: Mapping[int, Shape | None] = field(default_factory=dict[int, Shape | None])
    writes: bool = False
    tag: str = ""

    @property
    def scopes(self) -> Sequence[Scope]:
        """Those of which a key needs one, in the order of their names; none: it needs no key."""
        if self.scope is None:
            return ()
        return sorted(self.scope) if isinstance(self.scope, frozenset) else (self.scope,)


class Router:
    """Finds the route of a request: fixed paths by one look-up, the rest by patterns."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = routes
        self._fixed: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        by_path: dict[str, dict[str, Route]] = {}
        for route in routes:
            by_path.setdefault(route.path, {})[route.method] = route
        for path, methods in by_path.items():
            if "{" in path:
                pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path))
                self._patterns.append((re.compile(pattern), methods))
            else:
                self._fixed[path] = methods

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """The route and the path's parameters. Raises Refusal: not_found, or method_not_allowed with `Allow`."""
        methods = self._fixed.get(path)
        parameters: Mapping[str, str] = {}
        if methods is None:
            methods, parameters = self._match(path)
        route = methods.get(method) or (methods.get("GET") if method == "HEAD" else None)
        if route is None:
            allowed = ", ".join(sorted(methods) + (["HEAD"] if "GET" in methods else []))
            raise Refusal(Fault.METHOD_NOT_ALLOWED, f"allowed here: {allowed}", headers={"Allow": allowed})
        return route, parameters

    def _match(self, path: str) -> tuple[dict[str, Route], Mapping[str, str]]:
        if len(path) <= PATH_CHARACTERS_MAX:
            for pattern, methods in self._patterns:
                if match := pattern.fullmatch(path):
                    return methods, {name: _unquoted(value) for name, value in match.groupdict().items()}
        raise Refusal(Fault.NOT_FOUND, "there is no such route")


def _unquoted(segment: str) -> str:
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError as error:
        raise Refusal(Fault.NOT_FOUND, "there is no such route") from error
