"""Pagination of lists: cursors that are valid for the same list, caller and filters only."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from services.gateway.http.cursors import ForeignCursor, Position
from services.gateway.http.problems import invalid_field
from services.gateway.http.queries import ListQuery
from services.gateway.http.request import RequestContext

Row = TypeVar("Row")


def position_of(context: RequestContext, query: ListQuery, start: Position) -> Position:
    """The position that the query's cursor stands for; `start` without one. Raises Problem."""
    if query.cursor is None:
        return start
    try:
        return context.server.cursors.decode(_bound(context, query), query.cursor)
    except ForeignCursor as error:
        raise invalid_field("cursor", "it was not made for this query") from error


def page(
    context: RequestContext, query: ListQuery, found: Sequence[Row], position: Callable[[Row], Position]
) -> tuple[Sequence[Row], str | None]:
    """The rows of this page and the cursor of the next page, None without one. `found` was read with `limit + 1`."""
    rows = found[: query.limit]
    if len(found) == len(rows):
        return rows, None
    return rows, cursor_at(context, query, position(rows[-1]))


def cursor_at(context: RequestContext, query: ListQuery, position: Position) -> str:
    """The cursor of the page that begins after this position."""
    return context.server.cursors.encode(_bound(context, query), position)


def _bound(context: RequestContext, query: ListQuery) -> dict[str, str]:
    filters = query.model_dump(mode="json", exclude={"limit", "cursor"}, exclude_none=True)
    return {
        **{f"filter.{name}": str(value) for name, value in filters.items()},
        **{f"path.{name}": value for name, value in context.path.items()},
        "route": context.route_path,
        "principal": context.caller.principal,
        "admin": str(context.caller.admin),
    }
