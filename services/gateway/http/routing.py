"""Routes: what each takes, gives and needs. The router and the OpenAPI document both read them."""

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
    """`scopes`: of these a key needs one; none: the route is open to everybody. `writes`: it submits a command.

    `answers` maps a status to the type of its JSON body, None for none.
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
    """The routes of one module, each added where its handler stands."""

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
