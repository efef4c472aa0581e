"""Routes: parameters, answers and scopes of each. The router and the OpenAPI document both read them."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from services.gateway.http.queries import Query
from services.gateway.http.request import Body, RequestContext
from services.gateway.http.response import HttpResponse
from shared.domain.api_keys import Scope

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
