"""How every service runs: on uvloop, with a clean stop on SIGTERM, and a port for health checks and metrics."""

import asyncio
import contextlib
import gc
import resource
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, cast

import structlog
import uvloop
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared.runtime.refusal import StartRefused

log = structlog.get_logger()

# After a signal to stop, the service is cancelled if it has not ended within this time.
STOP_GRACE_S = 10.0
# How long requests in progress may still take when the metrics port closes.
SHUTDOWN_S = 1.0
# Thresholds of the cyclic garbage collector. Reference counting frees nearly all that a request allocates, so with the
# default of 700 the collector scans live objects in vain. Measured CPU per transfer: -13 % at 64 connections,
# -28 % (gateway) and -22 % (worker) at 256.
COLLECT_AFTER = (50_000, 50, 100)

# A process opens at most so many files and sockets, even where the hard limit of the system is a thousand million.
DESCRIPTORS_MAX = 65_536

Service = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
Readiness = Callable[[], Awaitable[dict[str, str]]]


def run_service(service: Service) -> None:
    """Runs `service(stop)` until it returns; SIGTERM and SIGINT set `stop`.

    An exception that it raises is logged and ends the process with exit code 1; StartRefused is one line, and 2.
    """
    raise_descriptor_limit()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    try:
        uvloop.run(_until_stopped(service))
    except Exception as fault:
        for leaf in _leaves(fault):
            if isinstance(leaf, StartRefused):
                sys.stderr.write(f"settings: {leaf}\n")
                sys.exit(2)
        log.critical("service.failed", faults=[repr(leaf) for leaf in _leaves(fault)], exc_info=fault)
        sys.exit(1)


def raise_descriptor_limit() -> int:
    """Raises the soft limit of open files to the hard one, or to DESCRIPTORS_MAX. Returns it; children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX))
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def _leaves(fault: BaseException) -> list[BaseException]:
    if isinstance(fault, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", fault)
        return [leaf for inner in group.exceptions for leaf in _leaves(inner)]
    return [fault]


async def _until_stopped(service: Service) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(service(stop), name="service")
        cutting = group.create_task(_cut_off(stop, running), name="stop grace")
        running.add_done_callback(lambda _: cutting.cancel())


async def _cut_off(stop: asyncio.Event, running: asyncio.Task[None]) -> None:
    await stop.wait()
    await asyncio.sleep(STOP_GRACE_S)
    log.warning("service.stop_overdue", grace_s=STOP_GRACE_S)
    running.cancel()


class Stopped(Exception):
    """Ends a TaskGroup whose service was asked to stop."""


@contextlib.asynccontextmanager
async def until_stop(stop: asyncio.Event) -> AsyncGenerator[asyncio.TaskGroup]:
    """A TaskGroup whose tasks are cancelled when `stop` is set.

    If a task raises, the others are cancelled too, and its exception is raised in an ExceptionGroup.
    """
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_raise_when(stop), name="stop")
            yield group
    except* Stopped:
        pass


async def _raise_when(stop: asyncio.Event) -> None:
    await stop.wait()
    raise Stopped


async def serve_metrics(
    host: str, port: int, readiness: Readiness, *, text: Callable[[], bytes] = generate_latest
) -> web.AppRunner:
    """Serves /livez, /readyz and /metrics; returns the runner, whose `cleanup()` ends it.

    `readiness` names what is not ready and why; an empty answer is 200, anything else 503. `text`: the metrics.
    """

    async def livez(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        missing = await readiness()
        return web.json_response(
            {"status": "unavailable" if missing else "ok", "missing": missing}, status=503 if missing else 200
        )

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    log.info("metrics.listening", addresses=[f"{address[0]}:{address[1]}" for address in runner.addresses])
    return runner
