"""Query parameters: each at most once, unknown ones refused, integers in ASCII digits, instants as in RFC 3339."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final
from urllib.parse import parse_qsl

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from services.gateway.http.problems import Problem, RequestFault

PARAMETERS_MAX: Final = 20
LIST_LIMIT_MAX: Final = 500
INSTANT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)
MICROSECOND: Final = timedelta(microseconds=1)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_INSTANT: Final = datetime.min.replace(tzinfo=UTC)
CURSOR_PATTERN: Final = r"^[A-Za-z0-9_-]{1,512}$"
DIGITS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


def parse_digits(text: object) -> object:
    """The int that up to nine ASCII digits stand for. Anything else is returned as it is, for pydantic to refuse."""
    return int(text) if isinstance(text, str) and DIGITS.fullmatch(text) else text


def parse_instant(text: object) -> object:
    """A UTC instant from RFC 3339; digits of its fraction beyond the sixth are cut off. Raises ValueError."""
    if not isinstance(text, str) or not INSTANT.fullmatch(text):
        raise ValueError("an RFC 3339 instant is expected, such as 2026-01-31T12:00:00.000000Z")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the instant is out of range") from error


Digits = Annotated[int, BeforeValidator(parse_digits)]
Instant = Annotated[
    datetime,
    BeforeValidator(parse_instant),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class Query(BaseModel):
    """Closed: an unknown parameter is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ListQuery(Query):
    """What every list takes."""

    limit: Digits = Field(default=50, ge=1, le=LIST_LIMIT_MAX)
    cursor: Annotated[str, StringConstraints(pattern=CURSOR_PATTERN)] | None = Field(
        default=None, description="`next` of the page before"
    )


class TimedListQuery(ListQuery):
    """A list that can be filtered by when the ledger wrote a row, and followed; all bounds are exclusive."""

    after: Instant | None = None
    before: Instant | None = None
    after_position: Annotated[str, StringConstraints(max_length=200)] | None = Field(
        default=None, description="`Tellerline-Position` of an earlier answer: only rows that were not there yet"
    )

    def times(self, after_us: int | None, until_us: int | None) -> tuple[datetime | None, datetime | None]:
        """After which instant, and until which, rows are wanted; also not before and after these, in microseconds."""
        # Nothing was recorded in the year 1.
        until = None if self.before is None else max(self.before, FIRST_INSTANT + MICROSECOND) - MICROSECOND
        after = [each for each in (self.after, _instant(after_us)) if each is not None]
        until_these = [each for each in (until, _instant(until_us)) if each is not None]
        return max(after, default=None), min(until_these, default=None)


def _instant(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else EPOCH + microseconds * MICROSECOND


def parse_parameters(text: str) -> dict[str, str]:
    """The parameters by name. Raises Problem when one occurs twice, holds NUL or is not percent-encoded UTF-8."""
    if not text:
        return {}
    if not text.isascii():
        raise Problem(RequestFault.INVALID_REQUEST, "the query is not valid")
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=PARAMETERS_MAX
        )
    except ValueError as error:
        raise Problem(RequestFault.INVALID_REQUEST, "the query is not valid") from error
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise Problem(RequestFault.INVALID_REQUEST, "a query parameter stands twice")
    if any("\0" in value for value in parameters.values()):
        raise Problem(RequestFault.INVALID_REQUEST, "a query parameter holds the character NUL")
    return parameters
