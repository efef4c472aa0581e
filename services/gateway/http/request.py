"""One request: who calls, which route, and its body and query, checked by the models that say what is allowed."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from services.gateway.http.auth import Keychain
from services.gateway.http.cursors import Cursors
from services.gateway.http.problems import FieldError, Problem, RequestFault, share_exceeded
from services.gateway.http.queries import Query, parse_parameters
from services.gateway.http.sources import Network
from services.gateway.store.shares import ShareExceeded, Shares
from services.gateway.usecases.caller import Caller
from services.gateway.usecases.state import AppState
from shared.domain.ids import CommandId, Principal
from shared.runtime import strict_json

BODY_BYTES_MAX: Final = 1024 * 1024
ERRORS_SHOWN_MAX: Final = 20
NOBODY: Final = Caller("", Principal(""), frozenset(), admin=False)
FIELD_CHARACTERS_MAX: Final = 64
CLOSE: Final = {"Connection": "close"}
# Pydantic's type of an error → the message that clients get instead of pydantic's own.
MESSAGES: Final = {
    "string_type": 'a JSON string is expected; amounts are strings, too: "12.34"',
    "extra_forbidden": "no such field",
}


Model = TypeVar("Model", bound=BaseModel)
QueryModel = TypeVar("QueryModel", bound=Query)


@dataclass(frozen=True, slots=True)
class ServerParts:
    """The parts of the HTTP layer that all requests share. `openapi`: the OpenAPI document, as JSON in UTF-8.

    `requests`, `bodies`: what one caller may have in flight of them, bodies in bytes. `trusted`: networks of balancers,
    which say where a request comes from.
    """

    keys: Keychain
    cursors: Cursors
    openapi: bytes
    body_timeout_s: float
    requests: Shares
    bodies: Shares
    trusted: Sequence[Network] = ()


@dataclass(slots=True, eq=False)
class RequestContext:
    """One request on its way through a handler. `path` holds the parameters of the path, `query_text` the query.

    `operation`: the id of the command that the request may have become; None for one that has not got so far.
    """

    state: AppState
    server: ServerParts
    request: web.BaseRequest
    route_path: str
    path: Mapping[str, str]
    query_text: str
    caller: Caller = NOBODY
    operation: CommandId | None = None

    async def body(self, model: type[Model]) -> Model:
        """The checked body. Raises Problem: invalid_request, too_large, unsupported_media_type, request_timeout."""
        check_media_type(self.request)
        try:
            value = strict_json.parse(await self._read_bytes())
        except strict_json.NotStrictJson as error:
            raise Problem(RequestFault.INVALID_REQUEST, str(error)) from error
        if not isinstance(value, dict):
            raise Problem(RequestFault.INVALID_REQUEST, "the body is not a JSON object")
        try:
            return model.model_validate(value)
        except ValidationError as error:
            raise invalid_model(error) from error

    async def refuse_body(self) -> None:
        """Raises Problem when a request to a route without a body has one. An empty JSON object is let through."""
        if self.request.content.at_eof() and self.request.content_length in {None, 0}:
            return
        if (await self._read_bytes()).strip() not in {b"", b"{}"}:
            raise Problem(RequestFault.INVALID_REQUEST, "this request takes no body")

    async def _read_bytes(self) -> bytes:
        server = self.server
        return await read_bytes(self.request, server.bodies, self.caller.principal, timeout_s=server.body_timeout_s)

    def query(self, model: type[QueryModel]) -> QueryModel:
        """The query, checked. Raises Problem."""
        try:
            return model.model_validate(parse_parameters(self.query_text))
        except ValidationError as error:
            raise invalid_model(error) from error


class Body(BaseModel):
    """Closed and strict: unknown fields and wrong types are errors, nothing is converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


async def read_bytes(request: web.BaseRequest, bodies: Shares, principal: str, *, timeout_s: float) -> bytes:
    """The raw body. While it arrives it counts as the principal's, in `bodies`. Raises Problem."""
    if request.content_length is not None and request.content_length > BODY_BYTES_MAX:
        raise Problem(RequestFault.TOO_LARGE, f"a body has at most {BODY_BYTES_MAX} bytes")
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    content = request.content
    if content.is_eof() and content.total_bytes <= BODY_BYTES_MAX:
        return content.read_nowait(-1)
    try:
        async with asyncio.timeout(timeout_s):
            return await _read_slowly(request, bodies, principal)
    except TimeoutError as error:
        raise Problem(RequestFault.REQUEST_TIMEOUT, headers=CLOSE) from error


async def _read_slowly(request: web.BaseRequest, bodies: Shares, principal: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        while part := await request.content.readany():
            if size + len(part) > BODY_BYTES_MAX:
                raise Problem(RequestFault.TOO_LARGE, f"a body has at most {BODY_BYTES_MAX} bytes")
            bodies.take(principal, len(part))
            size += len(part)
            parts.append(part)
    except web.RequestPayloadError as error:
        raise Problem(RequestFault.INVALID_REQUEST, "the body breaks off or is not framed as HTTP says") from error
    except ShareExceeded as error:
        raise share_exceeded(error, CLOSE) from error
    finally:
        if size:
            bodies.give_back(principal, size)  # whoever gets the body parses it before more of another one is read
    return b"".join(parts)


def check_media_type(request: web.BaseRequest) -> None:
    """Raises Problem unless the headers say that the body is JSON in UTF-8, without a Content-Encoding."""
    headers = request.headers
    media_type = headers.get("Content-Type", "")
    if media_type != "application/json":
        kind, *parameters = (part.strip().lower() for part in media_type.split(";"))
        is_json = kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
        if not is_json or not all(each in {"charset=utf-8", 'charset="utf-8"', ""} for each in parameters):
            raise Problem(RequestFault.UNSUPPORTED_MEDIA_TYPE, "a body is application/json in UTF-8")
    if headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise Problem(RequestFault.UNSUPPORTED_MEDIA_TYPE, "a body is not compressed")


def invalid_model(error: ValidationError) -> Problem:
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
    return Problem(RequestFault.INVALID_REQUEST, f"{first['field']}: {first['message']}", errors=errors)


def _path(location: Sequence[str | int]) -> str:
    """`("postings", 0, "amount")` → `postings[0].amount`."""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return path.removeprefix(".")[:FIELD_CHARACTERS_MAX]
