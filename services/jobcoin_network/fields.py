"""Reads the fields of a request in each of the ways in which clients send them."""

import json
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from aiohttp import web

from services.jobcoin_network.core.wire import FIELDS, RequestRefusedError

FIELDS_MAX = 20
UNREADABLE_FORM = "The form could not be read."
UNREADABLE_JSON = "The body is no JSON object."


class NumberText(str):
    """A JSON number as it was written, so that no float makes the amount inexact."""

    __slots__ = ()


class JsonObject(tuple[tuple[str, object], ...]):
    """The members of a JSON object, in their order, as often as each stands there."""

    __slots__ = ()


async def read_fields(request: web.Request) -> Mapping[str, str]:
    """Field → text, from the query string and the body (form, multipart or JSON); the body wins.

    Raises RequestRefusedError if the body cannot be read as the content type that it has.
    """
    query = _form_fields(request.rel_url.raw_query_string)
    if not request.can_read_body:
        return query
    kind = request.content_type
    if kind == "multipart/form-data":
        return {**query, **await _multipart_fields(request)}
    body = await request.read()
    if not body:
        return query
    if kind == "application/json" or kind.endswith("+json"):
        return {**query, **_json_fields(body)}
    if kind == "application/x-www-form-urlencoded":
        return {**query, **_form_fields(_text(body))}
    raise RequestRefusedError("Send the fields as a form, as JSON or in the query string.")


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as fault:
        raise RequestRefusedError(UNREADABLE_FORM) from fault


def _form_fields(text: str) -> Mapping[str, str]:
    try:
        return _known(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX))
    except RequestRefusedError:
        raise
    except ValueError as fault:
        raise RequestRefusedError(UNREADABLE_FORM) from fault


async def _multipart_fields(request: web.Request) -> Mapping[str, str]:
    try:
        form = await request.post()
    except (ValueError, AssertionError, LookupError) as fault:
        raise RequestRefusedError(UNREADABLE_FORM) from fault
    # A part that says a type of its own, and is no file, comes as bytes.
    parts = ((name, _text(bytes(part)) if isinstance(part, bytearray) else part) for name, part in form.items())
    return _known(parts)


def _json_fields(body: bytes) -> Mapping[str, str]:
    try:
        fields: object = json.loads(
            body.decode(),
            parse_float=NumberText,
            parse_int=NumberText,
            parse_constant=NumberText,  # NaN and Infinity: no amounts, and harmless in a field that nobody reads
            object_pairs_hook=JsonObject,
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as fault:
        raise RequestRefusedError(UNREADABLE_JSON) from fault
    if not isinstance(fields, JsonObject):
        raise RequestRefusedError(UNREADABLE_JSON)
    return _known((name, value) for name, value in fields if value is not None)


def _known(fields: Iterable[tuple[str, object]]) -> Mapping[str, str]:
    """The fields that the network knows. All others may have any type, and stand twice.

    Raises RequestRefusedError for one that is no text (an amount may be a number) or stands twice.
    """
    known: dict[str, str] = {}
    errors: dict[str, list[str]] = {}
    for name, value in fields:
        if name not in FIELDS:
            continue
        if not isinstance(value, str) or (isinstance(value, NumberText) and name != "amount"):
            errors[name] = ["This field must be text."]
        elif name in known:
            errors[name] = ["This field stands twice."]
        else:
            known[name] = str(value)
    if errors:
        raise RequestRefusedError(errors)
    return known
