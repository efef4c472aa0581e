"""/livez, /readyz, /metrics."""

import asyncio
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from services.gateway.routes import Call, Route
from services.gateway.store.database import DatabaseUnavailable
from services.gateway.store.health import missing_of_schema, read_settings
from services.gateway.web.answers import Answer

# Without these the database forgets what it acknowledged (measured: power loss).
DURABLE: Final = ("fsync", "full_page_writes", "synchronous_commit")
DURABLE_VALUES: Final = frozenset({"on", "remote_apply", "remote_write"})
DATABASE_TIMEOUT_S: Final = 3.0


class HealthBody(TypedDict):
    """`missing` names what is not ready, and why."""

    status: str
    missing: dict[str, str]


class AliveBody(TypedDict):
    """The loop turns."""

    status: str


HEALTH: TypeAdapter[HealthBody] = TypeAdapter(HealthBody)
ALIVE: TypeAdapter[AliveBody] = TypeAdapter(AliveBody)


async def livez(_: Call) -> Answer:
    """The loop turns."""
    return Answer(200, ALIVE.dump_json({"status": "ok"}))


async def readyz(call: Call) -> Answer:
    """Whether writes and reads would work now."""
    missing = await _missing_of_database(call)
    if not call.gateway.ledger.is_ready():
        missing["broker"] = "not connected, or it blocks publishers"
    if call.gateway.stopping.begun:
        missing["gateway"] = "stopping"
    status = 503 if missing else 200
    return Answer(status, HEALTH.dump_json({"status": "unavailable" if missing else "ok", "missing": missing}))


async def _missing_of_database(call: Call) -> dict[str, str]:
    database = call.gateway.database
    try:
        async with asyncio.timeout(DATABASE_TIMEOUT_S):
            schema = await missing_of_schema(database)
            settings = await read_settings(database, DURABLE)
    except (DatabaseUnavailable, TimeoutError):
        return {"database": "it does not answer"}
    missing = {
        f"database.{name}": f"is {settings.get(name)}" for name in DURABLE if settings.get(name) not in DURABLE_VALUES
    }
    if schema is not None:
        missing["database.schema"] = schema
    return missing


async def metrics(call: Call) -> Answer:
    """Prometheus' text format."""
    return Answer(200, call.gateway.metrics.text(), media_type=CONTENT_TYPE_LATEST)


ROUTES: Final = (
    Route(method="GET", path="/livez", handler=livez, answers={200: AliveBody}, summary="Whether the process turns"),
    Route(
        method="GET",
        path="/readyz",
        handler=readyz,
        answers={200: HealthBody},
        summary="Whether everything it needs is there",
    ),
    Route(method="GET", path="/metrics", handler=metrics, answers={200: None}, summary="Prometheus metrics"),
)
