"""/livez, /readyz, /metrics."""

from collections.abc import Mapping
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from services.gateway.routes import Call, Route
from services.gateway.web.answers import Answer


class DependencyBody(TypedDict):
    """`why_not` where it is not ok. `durability`: its settings as they were found; empty when it does not answer."""

    ok: bool
    why_not: str | None
    durability: Mapping[str, str]


class HealthBody(TypedDict):
    """`missing` names what is not ready, and why."""

    status: str
    missing: dict[str, str]
    dependencies: dict[str, DependencyBody]


class AliveBody(TypedDict):
    """The loop turns."""

    status: str


HEALTH: TypeAdapter[HealthBody] = TypeAdapter(HealthBody)
ALIVE: TypeAdapter[AliveBody] = TypeAdapter(AliveBody)


async def livez(_: Call) -> Answer:
    """The loop turns."""
    return Answer(200, ALIVE.dump_json({"status": "ok"}))


async def readyz(call: Call) -> Answer:
    """Whether writes and reads would work now: each dependency is asked, and has 2 s to answer."""
    findings = await call.gateway.dependencies.found()
    missing = {name: found.why_not for name, found in findings.items() if found.why_not is not None}
    if call.gateway.stopping.begun:
        missing["gateway"] = "stopping"
    body: HealthBody = {
        "status": "unavailable" if missing else "ok",
        "missing": missing,
        "dependencies": {
            name: {"ok": found.why_not is None, "why_not": found.why_not, "durability": found.durability}
            for name, found in findings.items()
        },
    }
    return Answer(503 if missing else 200, HEALTH.dump_json(body))


async def metrics(call: Call) -> Answer:
    """Prometheus' text format."""
    return Answer(200, call.gateway.metrics.text(), media_type=CONTENT_TYPE_LATEST)


ROUTES: Final = (
    Route(method="GET", path="/livez", handler=livez, answers={200: AliveBody}, summary="Whether the process turns"),
    Route(
        method="GET",
        path="/readyz",
        handler=readyz,
        answers={200: HealthBody, 503: HealthBody},
        summary="Whether everything it needs is there",
    ),
    Route(method="GET", path="/metrics", handler=metrics, answers={200: None}, summary="Prometheus metrics"),
)
