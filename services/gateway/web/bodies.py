"""Reads a request's body: size, time, media type, strict JSON, then one pydantic model that says what is allowed."""

import asyncio
from collections.abc import Sequence
from typing import Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from services.gateway.problems import Fault, FieldError, Refusal
from shared import strict_json

BODY_BYTES_MAX: Final = 1024 * 1024
ERRORS_SHOWN_MAX: Final = 20
FIELD_CHARACTERS_MAX: Final = 64
# What pydantic calls a text that is none; the message says what it should have been.
MESSAGES: Final = {
    "string_type": 'a JSON string is expected; amounts are strings, too: "12.34"',
    "extra_forbidden": "no such field",
}


class Body(BaseModel):
    """Closed and strict: unknown fields and wrong types are errors, nothing is converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Model = TypeVar("Model", bound=BaseModel)


async def read_body(request: web.BaseRequest, model: type[Model], *, timeout_s: float) -> Model:
    """The body as the model. Raises Refusal: invalid_request, too_large, unsupported_media_type, request_timeout."""
    check_media_type(request)
    try:
        value = strict_json.parse(await read_bytes(request, timeout_s=timeout_s))
    except strict_json.NotStrictJson as error:
        raise Refusal(Fault.INVALID_REQUEST, str(error)) from error
    if not isinstance(value, dict):
        raise Refusal(Fault.INVALID_REQUEST, "the body is not a JSON object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise refusal_of(error) from error


async def refuse_body(request: web.BaseRequest, *, timeout_s: float) -> None:
    """For routes that take none; an empty object is as good."""
    if request.content.at_eof() and request.content_length in {None, 0}:
        return
    if (await read_bytes(request, timeout_s=timeout_s)).strip() not in {b"", b"{}"}:
        raise Refusal(Fault.INVALID_REQUEST, "this request takes no body")


async def read_bytes(request: web.BaseRequest, *, timeout_s: float, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """The raw body. Raises Refusal."""
    if request.content_length is not None and request.content_length > bytes_max:
        raise Refusal(Fault.TOO_LARGE, f"a body has at most {bytes_max} bytes")
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    content = request.content
    if content.is_eof() and content.total_bytes <= bytes_max:
        return content.read_nowait(-1)
    try:
        async with asyncio.timeout(timeout_s):
            return await _read_up_to(request, bytes_max)
    except TimeoutError as error:
        raise Refusal(Fault.REQUEST_TIMEOUT, headers={"Connection": "close"}) from error


async def _read_up_to(request: web.BaseRequest, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        while part := await request.content.readany():
            size += len(part)
            if size > bytes_max:
                raise Refusal(Fault.TOO_LARGE, f"a body has at most {bytes_max} bytes")
            parts.append(part)
    except web.RequestPayloadError as error:
        raise Refusal(Fault.INVALID_REQUEST, "the body breaks off or is not framed as HTTP says") from error
    return b"".join(parts)


def check_media_type(request: web.BaseRequest) -> None:
    """Raises Refusal unless the body says that it is JSON in UTF-8, not encoded any further."""
    headers = request.headers
    media_type = headers.get("Content-Type", "")
    if media_type != "application/json":
        kind, *parameters = (part.strip().lower() for part in media_type.split(";"))
        is_json = kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
        if not is_json or not all(each in {"charset=utf-8", 'charset="utf-8"', ""} for each in parameters):
            raise Refusal(Fault.UNSUPPORTED_MEDIA_TYPE, "a body is application/json in UTF-8")
    if headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise Refusal(Fault.UNSUPPORTED_MEDIA_TYPE, "a body is not compressed")


def refusal_of(error: ValidationError) -> Refusal:
    """Pydantic's findings as a problem that names the fields and repeats nothing of the request."""
    found = error.errors(include_url=False, include_context=False, include_input=False)[:ERRORS_SHOWN_MAX]
    errors: Sequence[FieldError] = [
        {
            "field": _path(each["loc"]),
            "message": MESSAGES.get(each["type"], each["msg"].removeprefix("Value error, ")),
        }
        for each in found
    ]
    first = errors[0]
    return Refusal(Fault.INVALID_REQUEST, f"{first['field']}: {first['message']}", errors=errors)


def _path(location: Sequence[str | int]) -> str:
    """`("postings", 0, "amount")` → `postings[0].amount`."""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return path.removeprefix(".")[:FIELD_CHARACTERS_MAX]
