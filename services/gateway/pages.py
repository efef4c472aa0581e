"""Pages of lists: where the next one starts, bound to the list, the caller and every filter."""

from services.gateway.problems import invalid
from services.gateway.routes import Call
from services.gateway.web.cursors import ForeignCursor, Position
from services.gateway.web.queries import ListQuery


def position_of(call: Call, query: ListQuery) -> Position | None:
    """The position that the query's cursor stands for; None without one. Raises Refusal."""
    if query.cursor is None:
        return None
    try:
        return call.gateway.cursors.decode(_bound(call, query), query.cursor)
    except ForeignCursor as error:
        raise invalid("cursor", "it was not made for this query") from error


def cursor_after(call: Call, query: ListQuery, position: Position) -> str:
    """The cursor of the page that follows `position`."""
    return call.gateway.cursors.encode(_bound(call, query), position)


def _bound(call: Call, query: ListQuery) -> dict[str, str]:
    filters = query.model_dump(mode="json", exclude={"limit", "cursor"}, exclude_none=True)
    return {
        **{f"filter.{name}": str(value) for name, value in filters.items()},
        **{f"path.{name}": value for name, value in call.path.items()},
        "route": call.route.path,
        "principal": call.caller.principal,
        "admin": str(call.caller.admin),
    }
