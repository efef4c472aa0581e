"""/livez, /readyz."""

from collections.abc import Mapping
from typing import Final

from typing_extensions import TypedDict

from services.gateway.http.request import RequestContext
from services.gateway.http.response import HttpResponse, json_response
from services.gateway.http.routing import RouteTable
from services.gateway.usecases.dependencies import Finding
from services.gateway.usecases.state import AppState

ROUTES: Final = RouteTable()


class DependencyBody(TypedDict):
    """`why_not`: null when it is ok. `durability`: its settings as they were read; empty when it does not answer."""

    ok: bool
    why_not: str | None
    durability: Mapping[str, str]


class HealthBody(TypedDict):
    """`missing` names what is not ready, and why."""

    status: str
    missing: dict[str, str]
    dependencies: dict[str, DependencyBody]


class AliveBody(TypedDict):
    """The process answers."""

    status: str


@ROUTES.add("GET", "/livez", answers={200: AliveBody})
async def livez(_: RequestContext) -> HttpResponse:
    """Whether the process answers requests."""
    return json_response(200, {"status": "ok"})


@ROUTES.add("GET", "/readyz", answers={200: HealthBody, 503: HealthBody})
async def readyz(context: RequestContext) -> HttpResponse:
    """Whether everything it needs is there. Each dependency is asked, and has 2 s to answer."""
    findings = await context.state.dependencies.found()
    missing = missing_of(context.state, findings)
    body: HealthBody = {
        "status": "unavailable" if missing else "ok",
        "missing": missing,
        "dependencies": {
            name: {"ok": found.why_not is None, "why_not": found.why_not, "durability": found.durability}
            for name, found in findings.items()
        },
    }
    return json_response(503 if missing else 200, body)


def missing_of(state: AppState, findings: Mapping[str, Finding]) -> dict[str, str]:
    """What is not ready → why."""
    missing = {name: found.why_not for name, found in findings.items() if found.why_not is not None}
    return missing | {"gateway": "stopping"} if state.stopping.has_begun else missing
