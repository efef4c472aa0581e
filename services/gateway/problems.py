"""Every problem that the API can answer with (RFC 9457): one code, one status, one title."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NotRequired, TypeAlias

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from shared.rejections import PROBLEM_OF, Problem, Rejection


class Fault(StrEnum):
    """What the gateway itself finds, before or beside a decision of the ledger."""

    INVALID_REQUEST = "invalid_request"
    AMOUNT_SCALE = "amount_scale"
    AMOUNT_NOT_POSITIVE = "amount_not_positive"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
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


PROBLEM_OF_FAULT: Mapping[Fault, Problem] = MappingProxyType(
    {
        Fault.INVALID_REQUEST: Problem(400, "The request is not valid"),
        Fault.AMOUNT_SCALE: Problem(400, "The amount has more fraction digits than its asset"),
        Fault.AMOUNT_NOT_POSITIVE: Problem(400, "The amount is not greater than zero"),
        Fault.UNAUTHENTICATED: Problem(401, "No valid API key"),
        Fault.FORBIDDEN: Problem(403, "The API key may not do this"),
        Fault.NOT_FOUND: Problem(404, "There is nothing here"),
        Fault.METHOD_NOT_ALLOWED: Problem(405, "The method is not allowed here"),
        Fault.NOT_ACCEPTABLE: Problem(406, "Answers are JSON"),
        Fault.REQUEST_TIMEOUT: Problem(408, "The request did not arrive in time"),
        Fault.TOO_LARGE: Problem(413, "The request is too large"),
        Fault.UNSUPPORTED_MEDIA_TYPE: Problem(415, "The body is not JSON"),
        Fault.RATE_LIMITED: Problem(429, "Too many requests"),
        Fault.SERVER_ERROR: Problem(500, "Something went wrong on our side"),
        Fault.OVERLOADED: Problem(503, "Too much is under way"),
        Fault.UNAVAILABLE: Problem(503, "A part of the service is not reachable"),
        Fault.OUTCOME_UNKNOWN: Problem(504, "The outcome is not known yet"),
        Fault.HTTP_VERSION_NOT_SUPPORTED: Problem(505, "HTTP/1.0 and HTTP/1.1 are spoken here"),
    }
)

Code: TypeAlias = Fault | Rejection
_CODES: Mapping[str, Code] = MappingProxyType({code.value: code for code in (*Fault, *Rejection)})


def problem_of(code: Code) -> Problem:
    """Status and title of a code."""
    return PROBLEM_OF_FAULT[code] if isinstance(code, Fault) else PROBLEM_OF[code]


def code_named(name: str) -> Code:
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


PROBLEM: TypeAdapter[ProblemBody] = TypeAdapter(ProblemBody)


@dataclass(slots=True)
class Refusal(Exception):
    """Ends a request with a problem."""

    code: Code
    detail: str = ""
    errors: Sequence[FieldError] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    available: str | None = None
    required: str | None = None
    links: Mapping[str, str] | None = None

    @property
    def status(self) -> int:
        """The HTTP status."""
        return problem_of(self.code).status

    def body(self, request_id: str) -> ProblemBody:
        """The problem as the client sees it."""
        problem = problem_of(self.code)
        shown: ProblemBody = {
            "type": f"/problems/{self.code}",
            "title": problem.title,
            "status": problem.status,
            "detail": self.detail or problem.title,
            "code": self.code.value,
            "request_id": request_id,
        }
        if self.errors:
            shown["errors"] = self.errors
        if self.available is not None and self.required is not None:
            shown["available"], shown["required"] = self.available, self.required
        if self.links is not None:
            shown["links"] = self.links
        return shown


def invalid(field_name: str, message: str) -> Refusal:
    """One field that is not valid."""
    return Refusal(
        Fault.INVALID_REQUEST, f"{field_name}: {message}", errors=[{"field": field_name, "message": message}]
    )
