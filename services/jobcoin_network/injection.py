"""Commits the faults of an instance's plan against the callers of its API."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from aiohttp import web
from prometheus_client import Counter

from services.jobcoin_network.answers import OK_BODY, html, json_body, json_error, listed
from services.jobcoin_network.core.faults import (
    Call,
    CallFault,
    FaultKind,
    FaultPlan,
    FaultPlans,
    shown_positions,
    skewed,
)
from services.jobcoin_network.core.instances import InsufficientFundsError
from services.jobcoin_network.core.transactions import CoinAddress, CoinMovement, InstanceName
from services.jobcoin_network.core.wire import RequestRefusedError, address_head, read_transfer
from services.jobcoin_network.fields import read_fields
from services.jobcoin_network.network import Network, NetworkFullError

log = structlog.get_logger()

INJECTED = Counter("jobcoin_faults_injected", "Faults committed on purpose, by kind and call", ["kind", "call"])
LARGE_BODY = b'{"status":"OK","padding":"' + b"x" * 1_000_000 + b'"}'
PAGE = "<!DOCTYPE html><html><body><h1>We will be back soon</h1></body></html>"
OK, ERROR_STATUS = 200, 503
ODD_ROW = b'{"timestamp":7,"fromAddress":["Alice"],"toAddress":null,"amount":1.5}'
# Answers whose values have other types than those of the API.
ODD_ANSWERS: Mapping[Call, Sequence[bytes]] = {
    Call.LIST: (b"null", b"{}", b'"[]"', b'[7,"x",null,[]]', b"[%s]" % ODD_ROW),
    Call.ADDRESS: (
        b"[]",
        b'{"balance":1.5,"transactions":[]}',
        b'{"balance":null,"transactions":{}}',
        b'{"balance":"0","transactions":[%s]}' % ODD_ROW,
    ),
    Call.SEND: (b"true", b'{"status":true}', b'["OK"]', b'{"status":{"OK":"OK"}}'),
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class FaultyNetwork:
    """The network, the plans of its faults, and how to close its port for some milliseconds."""

    network: Network
    plans: FaultPlans
    close_port: Callable[[int], None]


FAULTY = web.AppKey("faulty", FaultyNetwork)


@dataclass(frozen=True, slots=True)
class _Hit:
    """One request that a fault hits."""

    request: web.Request
    name: InstanceName
    call: Call
    fault: CallFault
    plan: FaultPlan
    handler: Handler

    @property
    def faulty(self) -> FaultyNetwork:
        return self.request.app[FAULTY]

    def count(self) -> None:
        """Counts the fault: it happens."""
        self.faulty.plans.count(self.name, self.fault.kind, self.call)
        INJECTED.labels(self.fault.kind, self.call).inc()
        log.debug("fault.injected", instance=self.name, kind=self.fault.kind, call=self.call)

    def end(self) -> web.Response:
        """No answer, or one with the status of the fault."""
        if not self.fault.status:
            return cut(self.request)
        return json_body(200, OK_BODY) if self.fault.status == OK else _error(self.fault.status)


def faultable(call: Call, instance_of: Callable[[web.Request], InstanceName], handler: Handler) -> Handler:
    """The handler, with the faults that the plan of the request's instance has for this kind of call."""

    async def handle(request: web.Request) -> web.StreamResponse:
        name = instance_of(request)
        plan = request.app[FAULTY].plans.plan(name)
        fault = None if plan is None else plan.next(call)
        if plan is None or fault is None:
            return await handler(request)
        return await _INJECT[fault.kind](_Hit(request, name, call, fault, plan, handler))

    return handle


def cut(request: web.Request) -> web.Response:
    """Resets the connection. The response goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _latency(hit: _Hit) -> web.StreamResponse:
    hit.count()
    await asyncio.sleep(hit.fault.ms / 1000)
    return await hit.handler(hit.request)


async def _refused(hit: _Hit) -> web.StreamResponse:
    hit.count()
    hit.faulty.close_port(hit.fault.ms)
    return cut(hit.request)


async def _reset(hit: _Hit) -> web.StreamResponse:
    hit.count()
    return cut(hit.request)


async def _error_answer(hit: _Hit) -> web.StreamResponse:
    hit.count()
    await hit.request.read()
    return _error(hit.fault.status or ERROR_STATUS)


async def _applied_without_answer(hit: _Hit) -> web.StreamResponse:
    await hit.handler(hit.request)
    hit.count()
    return hit.end()


async def _answered_without_applying(hit: _Hit) -> web.StreamResponse:
    await hit.request.read()
    hit.count()
    return json_body(200, OK_BODY)


async def _delayed_apply(hit: _Hit) -> web.StreamResponse:
    try:
        movement = read_transfer(await read_fields(hit.request))
    except RequestRefusedError as refused:
        return json_error(400, refused.error)
    hit.count()
    later = asyncio.get_running_loop().call_later
    later(hit.fault.ms / 1000, _apply_late, hit.faulty.network, hit.name, movement)
    return hit.end()


def _apply_late(network: Network, name: InstanceName, movement: CoinMovement) -> None:
    # Whoever is told of it next makes it durable. A process that ends before has not applied it.
    try:
        network.apply(name, movement)
    except (InsufficientFundsError, NetworkFullError) as refused:
        log.debug("fault.late_refused", instance=name, error=type(refused).__name__)


async def _rows(hit: _Hit) -> web.StreamResponse:
    instance = hit.faulty.network.instance(hit.name)
    address = CoinAddress(hit.request.match_info.get("address", ""))
    positions = range(len(instance.rows)) if hit.call is Call.LIST else instance.positions(address)
    shown = shown_positions(hit.fault, positions, hit.plan.draw)
    rows = map(instance.rows.row, shown)
    if hit.fault.kind is FaultKind.CLOCK_SKEW:
        rows = (skewed(row, hit.fault.ms) for row in rows)
    if list(positions) != shown or (shown and hit.fault.kind is FaultKind.CLOCK_SKEW):
        hit.count()
    # Without an ETag: who has this list must not hold it for the true one.
    return listed(b"[", rows, b"]") if hit.call is Call.LIST else listed(address_head(instance, address), rows, b"]}")


async def _html(hit: _Hit) -> web.StreamResponse:
    return await _spoilt(hit, html(200, PAGE))


async def _large_body(hit: _Hit) -> web.StreamResponse:
    return await _spoilt(hit, json_body(200, LARGE_BODY))


async def _wrong_types(hit: _Hit) -> web.StreamResponse:
    answers = ODD_ANSWERS[hit.call]
    return await _spoilt(hit, json_body(200, answers[hit.plan.draw(len(answers))]))


async def _spoilt(hit: _Hit, answer: web.Response) -> web.StreamResponse:
    await hit.handler(hit.request)
    hit.count()
    return answer


def _error(status: int) -> web.Response:
    # As a proxy on the way would say it, who knows nothing of what the network did.
    return html(status, f"<!DOCTYPE html><html><body><h1>{status}</h1></body></html>")


_INJECT: Mapping[FaultKind, Callable[[_Hit], Awaitable[web.StreamResponse]]] = {
    FaultKind.LATENCY: _latency,
    FaultKind.REFUSED: _refused,
    FaultKind.RESET: _reset,
    FaultKind.ERROR: _error_answer,
    FaultKind.APPLIED_WITHOUT_ANSWER: _applied_without_answer,
    FaultKind.ANSWERED_WITHOUT_APPLYING: _answered_without_applying,
    FaultKind.DELAYED_APPLY: _delayed_apply,
    FaultKind.DUPLICATE_ROWS: _rows,
    FaultKind.MISSING_ROWS: _rows,
    FaultKind.REORDERED_ROWS: _rows,
    FaultKind.CLOCK_SKEW: _rows,
    FaultKind.HTML: _html,
    FaultKind.LARGE_BODY: _large_body,
    FaultKind.WRONG_TYPES: _wrong_types,
}
