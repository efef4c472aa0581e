"""Strict JSON (RFC 8259): refuses whatever parsers interpret differently, so that a body has only one meaning."""

import json
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, cast

from shared.domain.values import value

DEPTH_MAX: Final = 32
# A megabyte of commas and brackets would hold the event loop for half a second (measured), and no route needs it.
VALUES_MAX: Final = 20_000
# Escapes that are valid JSON but may decode to what PostgreSQL text or UTF-8 cannot hold: NUL, lone surrogates.
SUSPICIOUS: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
# A double holds every integer of up to 15 digits, so these need no closer look.
EXACT_CHARACTERS_MAX: Final = 15
# A longer number is not compared digit by digit, and counts as one that a double does not hold.
NUMBER_CHARACTERS_MAX: Final = 400
TOO_DEEP: Final = f"the body nests deeper than {DEPTH_MAX}"


@value
class InexactNumber:
    """A number of a body that programs which read numbers as doubles would change, such as 9007199254740993."""

    text: str


class NotStrictJson(ValueError):
    """The bytes are not one JSON value with exactly one meaning. The message says why, without the value."""


def parse(body: bytes) -> object:
    """The parsed value. A number that a double does not hold is an InexactNumber.

    Raises NotStrictJson: not UTF-8, not JSON, a duplicate key, NaN, infinity, too deep or too many values.
    """
    if len(body) > VALUES_MAX and sum(map(body.count, (b"{", b"[", b":", b","))) > VALUES_MAX:
        raise NotStrictJson("the body holds too many values")
    try:
        text = body.decode()
        value = _decoded(text)
        may_be_deep = body.count(b"{") + body.count(b"[") > DEPTH_MAX
        if may_be_deep or SUSPICIOUS.search(text):
            _check(value, DEPTH_MAX)
    except UnicodeError as error:
        raise NotStrictJson("the body is not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise NotStrictJson(f"the body is not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise NotStrictJson(TOO_DEEP) from error
    return value


def _decoded(text: str) -> object:
    """As `JSONDecoder.decode`, without its two searches for white space where there is none."""
    if text[:1] in {"{", "["} and text[-1] in {"}", "]"}:
        value, end = _DECODER.raw_decode(text)
        if end == len(text):
            return value
    return _DECODER.decode(text)


def _check(value: object, depth_max: int) -> None:
    """Raises NotStrictJson for a value that nests deeper than `depth_max`, or for NUL; UnicodeError for a surrogate."""
    if isinstance(value, str):
        if "\0" in value:
            raise NotStrictJson("a text holds the character NUL")
        value.encode()
        return
    if not isinstance(value, dict | list):
        return
    if depth_max == 0:
        raise NotStrictJson(TOO_DEEP)
    if isinstance(value, dict):
        for key, item in cast("dict[str, object]", value).items():
            _check(key, 0)
            _check(item, depth_max - 1)
    else:
        for item in cast("list[object]", value):
            _check(item, depth_max - 1)


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise NotStrictJson("an object has a key twice")
    return mapping


def _integer(text: str) -> int | InexactNumber:
    if len(text) <= EXACT_CHARACTERS_MAX:
        return int(text)
    return int(text) if _is_held_by_a_double(text) else InexactNumber(text)


def _fraction(text: str) -> float | InexactNumber:
    return float(text) if _is_held_by_a_double(text) else InexactNumber(text)


def _is_held_by_a_double(text: str) -> bool:
    """Whether the shortest text of the nearest double stands for the same number."""
    try:
        return len(text) <= NUMBER_CHARACTERS_MAX and Decimal(repr(float(text))) == Decimal(text)
    except InvalidOperation:  # the exponent is beyond all bounds
        return False


def _no_constant(name: str) -> object:
    raise NotStrictJson(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_fraction, parse_constant=_no_constant
)
