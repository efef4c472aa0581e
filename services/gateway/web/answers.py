"""What goes back to the client."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import web

JSON: Final = "application/json"
PROBLEM_JSON: Final = "application/problem+json"
EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - UTC throughout; an aware one would print its offset
AWARE_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, bytes and the headers that are not on every answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    media_type: str = JSON

    def response(self, request_id: str) -> web.Response:
        """The answer as aiohttp sends it."""
        headers = {
            "X-Request-Id": request_id,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Server": "tellerline",
            **self.headers,
        }
        if self.body:
            headers["Content-Type"] = self.media_type
        response = web.Response(status=self.status, body=self.body or None, headers=headers)
        if "Connection" in headers:
            response.force_close()
        return response


def instant_text(microseconds: int) -> str:
    """RFC 3339 in UTC with microseconds and `Z`, from microseconds since 1970."""
    return (EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds") + "Z"


def microseconds_of(instant: datetime) -> int:
    """Microseconds since 1970 of an aware instant."""
    return (instant - AWARE_EPOCH) // MICROSECOND
