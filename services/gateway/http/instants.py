"""Instants as clients write and read them (RFC 3339), and as microseconds since 1970."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Final

from pydantic import BeforeValidator, WithJsonSchema

INSTANT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)
EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - UTC throughout; an aware one would print its offset
EPOCH_UTC: Final = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_INSTANT: Final = datetime.min.replace(tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
MICROSECONDS_PER_S: Final = 1_000_000


def parse_instant(text: object) -> object:
    """A UTC instant from RFC 3339; digits of its fraction beyond the sixth are cut off. Raises ValueError."""
    if not isinstance(text, str) or not INSTANT.fullmatch(text):
        raise ValueError("an RFC 3339 instant is expected, such as 2026-01-31T12:00:00.000000Z")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the instant is out of range") from error


Instant = Annotated[
    datetime,
    BeforeValidator(parse_instant),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


@lru_cache(maxsize=1_024)
def _second_text(second: int) -> str:
    return (EPOCH + timedelta(seconds=second)).isoformat(timespec="seconds")


def instant_text(microseconds: int) -> str:
    """RFC 3339 in UTC with microseconds and `Z`, from microseconds since 1970."""
    second, fraction = divmod(microseconds, MICROSECONDS_PER_S)
    return f"{_second_text(second)}.{fraction:06d}Z"


def microseconds_of(instant: datetime) -> int:
    """Microseconds since 1970 of an aware instant."""
    return (instant - EPOCH_UTC) // MICROSECOND


def instant_of(microseconds: int) -> datetime:
    """The aware instant, from microseconds since 1970."""
    return EPOCH_UTC + microseconds * MICROSECOND
