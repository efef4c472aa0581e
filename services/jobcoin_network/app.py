"""The network over HTTP: API, pages, health. Every POST goes through one handler, `accept_post`."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import CONTENT_TYPE_LATEST, Counter, generate_latest

from services.jobcoin_network import pages
from services.jobcoin_network.answers import OK_BODY, html, json_body, json_error, listed, whole_list
from services.jobcoin_network.core.faults import Call
from services.jobcoin_network.core.instances import InsufficientFundsError, instance_name
from services.jobcoin_network.core.transactions import CoinAddress, CoinMovement, InstanceName
from services.jobcoin_network.core.wire import RequestRefusedError, address_head, read_creation, read_transfer
from services.jobcoin_network.fields import read_fields
from services.jobcoin_network.injection import FAULTY, FaultyNetwork, faultable
from services.jobcoin_network.network import Network, NetworkFullError, NotDurableError

log = structlog.get_logger()

# Two addresses of 4,096 bytes, each byte as three characters, fit into a body, and into the first line of a request.
BODY_BYTES_MAX = 64 * 1024
LINE_BYTES_MAX = 64 * 1024
BODY_TIMEOUT_S = 10.0
# In If-None-Match: whatever list there is.
ANY = "*"

NETWORK = web.AppKey("network", Network)
REQUESTS = Counter("jobcoin_requests", "Requests by route and status", ["method", "route", "status"])

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
NETWORK_FULL = (503, "The network is full")


def build_app(faulty: FaultyNetwork) -> web.Application:
    """The application around a network and the faults that it commits."""
    app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[respond])
    app[NETWORK], app[FAULTY] = faulty.network, faulty
    app.on_response_prepare.append(add_headers)
    app.add_routes([web.get("/", hello), web.get("/metrics", metrics)])
    app.add_routes([web.get("/livez", ready), web.get("/readyz", ready)])
    # The official client for Node ends its paths with a slash, the others do not.
    for slash in ("", "/"):
        app.add_routes(web.get(f"/{{instance}}{path}{slash}", handler) for path, handler in GETS.items())
        app.add_routes(web.post(f"/{{instance}}{path}{slash}", handler) for path, handler in POSTS.items())
    return app


async def accept_post(
    request: web.Request, *, read: Callable[[Mapping[str, str]], CoinMovement], is_page: bool
) -> web.StreamResponse:
    """Reads the fields and applies them. Every POST of the API and of the pages passes here."""
    name, network = instance_of(request), request.app[NETWORK]
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            fields = await read_fields(request)
        network.apply(name, read(fields))
    except RequestRefusedError as refused:
        status, error = 400, refused.error
    except InsufficientFundsError:
        status, error = 422, "Insufficient Funds"
    except NetworkFullError:
        status, error = NETWORK_FULL
    else:
        if is_page:  # back to the viewer by GET, so that a reload sends nothing twice
            return web.Response(status=303, headers={hdrs.LOCATION: f"/{name}"})
        return json_body(200, OK_BODY)
    return html(status, pages.viewer(network.instance(name), error)) if is_page else json_error(status, error)


@web.middleware
async def respond(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Lets no response leave before what it tells of is durable, and turns every fault into an error in JSON."""
    try:
        response = preflight() if request.method == hdrs.METH_OPTIONS else await handler(request)
        if "instance" in request.match_info:
            await request.app[NETWORK].durable()
    except web.HTTPException as fault:
        response = json_error(fault.status, fault.reason)
        if hdrs.ALLOW in fault.headers:
            response.headers[hdrs.ALLOW] = fault.headers[hdrs.ALLOW]
    except (HttpProcessingError, web.RequestPayloadError):
        response = json_error(400, "The body could not be read.")
    except TimeoutError:
        response = json_error(408, "Request Timeout")
        response.force_close()
    except NetworkFullError:
        response = json_error(*NETWORK_FULL)
    except NotDurableError:
        response = json_error(500, "Internal Server Error")
    except Exception:
        log.exception("request.failed", method=request.method)
        response = json_error(500, "Internal Server Error")
    count(request, response.status)
    return response


def count(request: web.Request, status: int) -> None:
    """Counts the response by its route. Unknown paths count together, or a client could make any number of labels."""
    resource = request.match_info.route.resource
    labels = (request.method, resource.canonical) if resource else ("none", "none")
    REQUESTS.labels(*labels, status).inc()


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Pages of any origin may use the API, as browser wallets do. Our own pages run no script."""
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Content-Security-Policy"] = pages.CONTENT_SECURITY_POLICY


def instance_of(request: web.Request) -> InstanceName:
    """The instance that the path names. Raises HTTPNotFound."""
    name = instance_name(request.match_info["instance"])
    if name is None:
        raise web.HTTPNotFound
    return name


async def transactions(request: web.Request) -> web.Response:
    """The whole list. A client that sends its ETag back gets 304 until something is added."""
    instance = request.app[NETWORK].instance(instance_of(request))
    tag = f"{instance.first_ms}-{len(instance.rows)}"
    headers = {str(hdrs.ETAG): f'"{tag}"'}
    if any(known.value in {tag, ANY} for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return whole_list(instance.rows, headers)


async def address(request: web.Request) -> web.Response:
    """Balance and transactions of one address; never 404."""
    instance = request.app[NETWORK].instance(instance_of(request))
    asked = CoinAddress(request.match_info["address"])
    return listed(address_head(instance, asked), map(instance.rows.row, instance.positions(asked)), b"]}")


async def viewer(request: web.Request) -> web.Response:
    """The page of an instance."""
    return html(200, pages.viewer(request.app[NETWORK].instance(instance_of(request))))


async def documentation(request: web.Request) -> web.Response:
    """The API docs of an instance."""
    return html(200, pages.documentation(instance_of(request)))


async def hello(_: web.Request) -> web.Response:
    """A page with the word that the tests of the official client templates look for."""
    return html(200, pages.hello())


async def ready(_: web.Request) -> web.Response:
    """200: the list is read before the port is opened, so a process that responds is ready."""
    return json_body(200, b'{"status":"ok"}')


async def metrics(_: web.Request) -> web.Response:
    """Prometheus."""
    return web.Response(body=generate_latest(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST})


def preflight() -> web.Response:
    """What a browser asks before it posts JSON from another origin."""
    allowed = {"Access-Control-Allow-Methods": "GET, POST, OPTIONS", "Access-Control-Allow-Headers": "Content-Type"}
    return web.Response(status=204, headers=allowed)


GETS: Mapping[str, Handler] = {
    "": viewer,
    "/api": documentation,
    "/api/transactions": faultable(Call.LIST, instance_of, transactions),
    # Any character but a slash, which a client has to write as %2F.
    "/api/addresses/{address:[^/]+}": faultable(Call.ADDRESS, instance_of, address),
}
# Of those who post, only callers of the API meet faults: whoever sets up a scene can use the pages.
POSTS: Mapping[str, Handler] = {
    "/api/transactions": faultable(Call.SEND, instance_of, partial(accept_post, read=read_transfer, is_page=False)),
    "/api/create": partial(accept_post, read=read_creation, is_page=False),
    "/send": partial(accept_post, read=read_transfer, is_page=True),
    "/create": partial(accept_post, read=read_creation, is_page=True),
}
