"""Reads the fields of a request in each of the ways in which clients send them."""

import json
from collections.abc import Iterable, Mapping
from typing import TypeVar, cast
from urllib.parse import parse_qsl

from aiohttp import web

from services.jobcoin_network.core.wire import RequestRefusedError

FIELDS_MAX = 20
UNREADABLE_FORM = "The form could not be read."
UNREADABLE_JSON = "The body is no JSON object."

Value = TypeVar("Value")


class NumberText(str):
    """A JSON number as it was written, so that no float makes the amount inexact."""

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
        return {**query, **_form_fields(body.decode("ascii", "backslashreplace"))}
    raise RequestRefusedError("Send the fields as a form, as JSON or in the query string.")


def _form_fields(text: str) -> Mapping[str, str]:
    try:
        return _unique(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX))
    except ValueError as fault:
        raise RequestRefusedError(UNREADABLE_FORM) from fault


async def _multipart_fields(request: web.Request) -> Mapping[str, str]:
    try:
        form = await request.post()
    except (ValueError, AssertionError, LookupError) as fault:
        raise RequestRefusedError(UNREADABLE_FORM) from fault
    return _texts(_unique(form.items()))


def _json_fields(body: bytes) -> Mapping[str, str]:
    try:
        fields: object = json.loads(
            body.decode(),
            parse_float=NumberText,
            parse_int=NumberText,
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique,
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as fault:
        raise RequestRefusedError(UNREADABLE_JSON) from fault
    if not isinstance(fields, dict):
        raise RequestRefusedError(UNREADABLE_JSON)
    known = cast("dict[str, object]", fields)
    return _texts({name: value for name, value in known.items() if value is not None})


def _texts(fields: Mapping[str, object]) -> Mapping[str, str]:
    errors = {
        name: ["This field must be text."]
        for name, value in fields.items()
        if not isinstance(value, str) or (isinstance(value, NumberText) and name != "amount")
    }
    if errors:
        raise RequestRefusedError(errors)
    return {name: str(value) for name, value in fields.items()}


def _unique(pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    fields: dict[str, Value] = {}
    for name, value in pairs:
        if name in fields:
            raise RequestRefusedError({name: ["This field stands twice."]})
        fields[name] = value
    return fields


def _refuse_constant(constant: str) -> object:
    raise RequestRefusedError({"amount": [f"{constant} is no number."]})
