"""Query parameters: each at most once, unknown ones refused, integers in ASCII digits, instants as in RFC 3339."""

import re
from datetime import datetime
from typing import Annotated, Final
from urllib.parse import parse_qsl

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from services.gateway.http.cursors import CURSOR_CHARACTERS_MAX
from services.gateway.http.instants import FIRST_INSTANT, MICROSECOND, Instant, instant_of
from services.gateway.http.problems import Problem, RequestFault

PARAMETERS_MAX: Final = 20
LIST_LIMIT_MAX: Final = 500
CURSOR_PATTERN: Final = f"^[A-Za-z0-9_-]{{1,{CURSOR_CHARACTERS_MAX}}}$"
DIGITS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


def parse_digits(text: object) -> object:
    """The int that up to nine ASCII digits stand for. Anything else is returned as it is, for pydantic to refuse."""
    return int(text) if isinstance(text, str) and DIGITS.fullmatch(text) else text


Digits = Annotated[int, BeforeValidator(parse_digits)]


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
        """After which instant, and until which, rows are wanted, within these bounds in microseconds since 1970."""
        # Nothing was recorded in the year 1.
        until = None if self.before is None else max(self.before, FIRST_INSTANT + MICROSECOND) - MICROSECOND
        after_all = [self.after, None if after_us is None else instant_of(after_us)]
        until_all = [until, None if until_us is None else instant_of(until_us)]
        return max(filter(None, after_all), default=None), min(filter(None, until_all), default=None)


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
