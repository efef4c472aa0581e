"""Every problem that the API can answer with (RFC 9457): one code, one status, one title."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NotRequired, TypeAlias

from typing_extensions import TypedDict

from services.gateway.store.shares import ShareExceeded
from shared.domain.rejections import Rejection
from shared.domain.values import value


class RequestFault(StrEnum):
    """Codes of the problems that the gateway itself finds. Those that the ledger decides are `Rejection`."""

    INVALID_REQUEST = "invalid_request"
    AMOUNT_SCALE = "amount_scale"
    AMOUNT_NOT_POSITIVE = "amount_not_positive"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    WRONG_STATE = "wrong_state"
    NOT_ACCEPTABLE = "not_acceptable"
    REQUEST_TIMEOUT = "request_timeout"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"
    OUTCOME_UNKNOWN = "outcome_unknown"
    HTTP_VERSION_NOT_SUPPORTED = "http_version_not_supported"


ProblemCode: TypeAlias = RequestFault | Rejection


@value
class ProblemType:
    """The HTTP status and the title of one code, the same in every answer."""

    status: int
    title: str


PROBLEM_TYPES: Mapping[ProblemCode, ProblemType] = MappingProxyType({
    RequestFault.INVALID_REQUEST: ProblemType(400, "The request is not valid"),
    RequestFault.AMOUNT_SCALE: ProblemType(400, "The amount has more fraction digits than its asset"),
    RequestFault.AMOUNT_NOT_POSITIVE: ProblemType(400, "The amount is not greater than zero"),
    RequestFault.UNAUTHENTICATED: ProblemType(401, "No valid API key"),
    RequestFault.FORBIDDEN: ProblemType(403, "The API key may not do this"),
    RequestFault.NOT_FOUND: ProblemType(404, "There is nothing here"),
    RequestFault.METHOD_NOT_ALLOWED: ProblemType(405, "The method is not allowed here"),
    RequestFault.WRONG_STATE: ProblemType(409, "Its state does not allow this"),
    RequestFault.NOT_ACCEPTABLE: ProblemType(406, "Answers are JSON"),
    RequestFault.REQUEST_TIMEOUT: ProblemType(408, "The request did not arrive in time"),
    RequestFault.TOO_LARGE: ProblemType(413, "The request is too large"),
    RequestFault.UNSUPPORTED_MEDIA_TYPE: ProblemType(415, "The body is not JSON"),
    RequestFault.RATE_LIMITED: ProblemType(429, "Too many requests"),
    RequestFault.SERVER_ERROR: ProblemType(500, "Something went wrong on our side"),
    RequestFault.OVERLOADED: ProblemType(503, "Too much is under way"),
    RequestFault.UNAVAILABLE: ProblemType(503, "A part of the service is not reachable"),
    RequestFault.OUTCOME_UNKNOWN: ProblemType(504, "The outcome is not known yet"),
    RequestFault.HTTP_VERSION_NOT_SUPPORTED: ProblemType(505, "HTTP/1.0 and HTTP/1.1 are spoken here"),
    # What the ledger decides.
    Rejection.IDEMPOTENCY_KEY_REUSED: ProblemType(422, "The idempotency key was used with other content"),
    Rejection.CANCELLED: ProblemType(409, "The operation was cancelled"),
    Rejection.UNKNOWN_ASSET: ProblemType(422, "No such asset"),
    Rejection.ALREADY_EXISTS: ProblemType(409, "It exists already"),
    Rejection.SAME_ACCOUNT: ProblemType(422, "Source and destination are the same account"),
    Rejection.ACCOUNT_NOT_FOUND: ProblemType(422, "No such account"),
    Rejection.ASSET_MISMATCH: ProblemType(422, "The assets differ"),
    Rejection.HOLD_NOT_OPEN: ProblemType(409, "The hold is not open"),
    Rejection.ACCOUNT_CLOSED: ProblemType(422, "The account is closed"),
    Rejection.ACCOUNT_FROZEN: ProblemType(422, "The account is frozen"),
    Rejection.ACCOUNT_NOT_EMPTY: ProblemType(409, "The account is not empty"),
    Rejection.INSUFFICIENT_FUNDS: ProblemType(422, "Not enough available funds"),
    Rejection.LIMIT_EXCEEDED: ProblemType(422, "The amount or the balance passes a limit"),
    Rejection.ADDRESS_REFUSED: ProblemType(422, "An address cannot be paid to"),
    # The command broke the core or the database. An operator finds it among the dead letters.
    Rejection.INTERNAL_ERROR: ProblemType(500, "The command could not be processed and was set aside"),
})  # fmt: skip
_CODES: Mapping[str, ProblemCode] = MappingProxyType({code.value: code for code in PROBLEM_TYPES})


def problem_code(name: str) -> ProblemCode:
    """The code with this name. Raises KeyError when there is none."""
    return _CODES[name]


class FieldError(TypedDict):
    """What is wrong with one field of the request."""

    field: str
    message: str


class ProblemBody(TypedDict):
    """RFC 9457 problem details. `available` and `required` come with funds, as amounts of the asset."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: NotRequired[Sequence[FieldError]]
    available: NotRequired[str]
    required: NotRequired[str]
    links: NotRequired[Mapping[str, str]]


@dataclass(slots=True)
class Problem(Exception):
    """Ends a request with this problem as its answer. `available` and `required` are amounts in units of the asset."""

    code: ProblemCode
    detail: str = ""
    errors: Sequence[FieldError] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    available: str | None = None
    required: str | None = None
    links: Mapping[str, str] | None = None

    @property
    def status(self) -> int:
        """The HTTP status."""
        return PROBLEM_TYPES[self.code].status

    def body(self, request_id: str) -> ProblemBody:
        """The problem as the client sees it."""
        kind = PROBLEM_TYPES[self.code]
        body: ProblemBody = {
            "type": f"/problems/{self.code}",
            "title": kind.title,
            "status": kind.status,
            "detail": self.detail or kind.title,
            "code": self.code.value,
            "request_id": request_id,
        }
        if self.errors:
            body["errors"] = self.errors
        if self.available is not None and self.required is not None:
            body["available"], body["required"] = self.available, self.required
        if self.links is not None:
            body["links"] = self.links
        return body


def share_exceeded(fault: ShareExceeded, headers: Mapping[str, str]) -> Problem:
    """The problem of a caller that uses all it may, or of a gateway that is full. Nothing happened."""
    code = RequestFault.RATE_LIMITED if fault.is_own else RequestFault.OVERLOADED
    return Problem(code, str(fault), headers={"Retry-After": "1", **headers})


def invalid_field(name: str, message: str, code: ProblemCode = RequestFault.INVALID_REQUEST) -> Problem:
    """The problem of one field that is not valid."""
    return Problem(code, f"{name}: {message}", errors=[{"field": name, "message": message}])
