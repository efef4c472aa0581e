"""The port at which faults are ordered. It is not the network's own, and has no access control.

A browser asks before it sends PUT or DELETE to another origin, and gets no leave here: no page can order faults.
"""

import random
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Self

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.jobcoin_network.answers import json_error
from services.jobcoin_network.core.faults import (
    CALLS,
    PARTS,
    Call,
    FaultKind,
    FaultPlan,
    FaultPlans,
    FaultRule,
    RatesTooHighError,
)
from services.jobcoin_network.core.instances import instance_name

log = structlog.get_logger()

SCRIPT_MAX = 10_000
ROWS_MAX = 1_000
DAY_S = 86_400.0
PLANS = web.AppKey("plans", FaultPlans)


class _ControlBody(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScriptedFault(_ControlBody):
    """A fault for one of the next calls. `seconds`: least and most; a random time between them is taken."""

    kind: FaultKind
    call: Call | None = None
    seconds: tuple[float, float] = (1.0, 1.0)
    status: int = Field(default=0, ge=0, le=599)
    rows: int = Field(default=1, ge=1, le=ROWS_MAX)

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        least_s, most_s = self.seconds
        earliest_s = -DAY_S if self.kind is FaultKind.CLOCK_SKEW else 0.0
        if not earliest_s <= least_s <= most_s <= DAY_S:
            raise ValueError("seconds: the least, then the most, a day at most; only a clock goes back")
        if 0 < self.status < HTTPStatus.OK:
            raise ValueError("status: 0 to cut the connection, or 200 to 599")
        if self.call is not None and self.call not in CALLS[self.kind]:
            raise ValueError(f"{self.kind} cannot happen to the call {self.call}")
        return self

    def rule(self) -> FaultRule:
        """For the plan."""
        least_ms, most_ms = (round(seconds * 1000) for seconds in self.seconds)
        return FaultRule(self.kind, self.call, least_ms, most_ms, self.status, self.rows)


class RatedFault(ScriptedFault):
    """A fault for a share of the calls that it can happen to."""

    rate: float = Field(gt=0, le=1)


class FaultOrder(_ControlBody):
    """Every fault that an instance is to have from now on. The seed decides which calls are hit."""

    seed: int | None = None
    rates: tuple[RatedFault, ...] = ()
    script: Annotated[tuple[ScriptedFault, ...], Field(max_length=SCRIPT_MAX)] = ()


def build_control(plans: FaultPlans) -> web.Application:
    """The application of the control port."""
    app = web.Application(middlewares=[_in_json])
    app[PLANS] = plans
    path = "/instances/{instance}/faults"
    app.add_routes([web.get(path, show), web.put(path, put), web.delete(path, clear)])
    return app


async def show(request: web.Request) -> web.Response:
    """The faults of an instance: by rate, left of the script, and how many happened."""
    return _shown(request.app[PLANS], _name(request))


async def put(request: web.Request) -> web.Response:
    """Replaces the faults of an instance. Raises ValidationError or RatesTooHighError."""
    name, plans = _name(request), request.app[PLANS]
    order = FaultOrder.model_validate_json(await request.read())
    lots = random.Random(order.seed)  # noqa: S311 - faults that can be repeated are wanted
    rates = [(fault.rule(), round(fault.rate * PARTS)) for fault in order.rates]
    plans.put(name, FaultPlan(lots.randrange, rates, [fault.rule() for fault in order.script]))
    log.info("faults.set", instance=name, rates=len(rates), script=len(order.script))
    return _shown(plans, name)


async def clear(request: web.Request) -> web.Response:
    """Ends the faults of an instance."""
    name, plans = _name(request), request.app[PLANS]
    plans.drop(name)
    log.info("faults.cleared", instance=name)
    return _shown(plans, name)


def _shown(plans: FaultPlans, name: str) -> web.Response:
    plan = plans.plan(name)
    rates = [] if plan is None else [{**_rule(rule), "rate": parts / PARTS} for rule, parts in plan.rates]
    script = [] if plan is None else [_rule(rule) for rule in plan.script]
    injected = [{"kind": kind, "call": call, "count": count} for (kind, call), count in plans.counts(name).items()]
    return web.json_response({"instance": name, "rates": rates, "script": script, "injected": injected})


def _rule(rule: FaultRule) -> dict[str, object]:
    seconds = [rule.ms_min / 1000, rule.ms_max / 1000]
    return {"kind": rule.kind, "call": rule.call, "seconds": seconds, "status": rule.status, "rows": rule.rows}


def _name(request: web.Request) -> str:
    name = instance_name(request.match_info["instance"])
    if name is None:
        raise web.HTTPNotFound
    return name


@web.middleware
async def _in_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as fault:
        return json_error(fault.status, fault.reason)
    except RatesTooHighError as fault:
        return json_error(422, str(fault))
    except ValidationError as fault:
        return json_error(422, "; ".join(_complaint(detail["loc"], detail["msg"]) for detail in fault.errors()))


def _complaint(place: tuple[int | str, ...], message: str) -> str:
    return ": ".join([".".join(map(str, place)), message]) if place else message
