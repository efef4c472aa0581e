"""The network over HTTP: API, pages, health. Every POST goes through one handler, `accept_post`."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import CONTENT_TYPE_LATEST, Counter, generate_latest

from services.jobcoin_network import pages
from services.jobcoin_network.core.chain import Address, Movement, Refusal
from services.jobcoin_network.core.wire import RequestRefusedError, error_json, read_creation, read_transfer
from services.jobcoin_network.core.world import InstanceName, instance_name
from services.jobcoin_network.fields import read_fields
from services.jobcoin_network.network import Network, NetworkFullError, NotDurableError
from shared.values import value

log = structlog.get_logger()

BODY_BYTES_MAX = 16 * 1024
BODY_TIMEOUT_S = 10.0

NETWORK = web.AppKey("network", Network)
REQUESTS = Counter("jobcoin_requests", "Requests by route and status", ["method", "route", "status"])

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ErrorBody = str | Mapping[str, list[str]]

STATUS_OF: Mapping[Refusal, int] = {Refusal.INSUFFICIENT_FUNDS: 422, Refusal.NETWORK_FULL: 503}


@value
class Post:
    """One kind of POST: what its fields ask for, and how it answers."""

    read: Callable[[Mapping[str, str]], Movement]
    applied: Callable[[InstanceName], web.Response]
    refused: Callable[[web.Request, InstanceName, int, ErrorBody], web.Response]


def build_app(network: Network) -> web.Application:
    """The application around a network."""
    app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[answer])
    app[NETWORK] = network
    app.on_response_prepare.append(add_headers)
    app.add_routes([web.get("/", hello), web.get("/metrics", metrics)])
    app.add_routes([web.get("/livez", ready), web.get("/readyz", ready)])
    # The official client for Node ends its paths with a slash, the others do not.
    for slash in ("", "/"):
        app.add_routes(web.get(f"/{{instance}}{path}{slash}", handler) for path, handler in GETS.items())
        app.add_routes(web.post(f"/{{instance}}{path}{slash}", posting(post)) for path, post in POSTS.items())
    return app


def posting(post: Post) -> Handler:
    """The handler of one kind of POST."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await accept_post(request, post)

    return handle


async def accept_post(request: web.Request, post: Post) -> web.StreamResponse:
    """Read, apply, answer. Every POST of the API and of the pages passes here, so a fault of the network goes here."""
    name = instance_of(request)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            fields = await read_fields(request)
        outcome = request.app[NETWORK].apply(name, post.read(fields))
    except RequestRefusedError as refused:
        return post.refused(request, name, 400, refused.error)
    if isinstance(outcome, Refusal):
        return post.refused(request, name, STATUS_OF[outcome], outcome.value)
    return post.applied(name)


@web.middleware
async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """No answer leaves before what it was decided on is durable; a fault is an error in JSON, never a stack trace."""
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
        response = json_error(STATUS_OF[Refusal.NETWORK_FULL], Refusal.NETWORK_FULL.value)
    except NotDurableError:
        response = json_error(500, "Internal Server Error")
    except Exception:
        log.exception("request.failed", method=request.method)
        response = json_error(500, "Internal Server Error")
    count(request, response.status)
    return response


def count(request: web.Request, status: int) -> None:
    """Count the answer under its route. What no route takes has none, and neither has its method."""
    resource = request.match_info.route.resource
    labels = (request.method, resource.canonical) if resource else ("none", "none")
    REQUESTS.labels(*labels, status).inc()


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Any page of the web may use the API, as browser wallets do; what we show is never run."""
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
    """The whole list. A reader that sends back the ETag gets 304 for as long as nothing was added."""
    name = instance_of(request)
    chain = request.app[NETWORK].chain(name)
    tag = f'"{chain.transactions()[0].timestamp_ms}-{len(chain.transactions())}"'
    if request.headers.get(hdrs.IF_NONE_MATCH) == tag:
        return web.Response(status=304, headers={hdrs.ETAG: tag})
    return json_body(200, request.app[NETWORK].listing(name).all_json(), {hdrs.ETAG: tag})


async def address(request: web.Request) -> web.Response:
    """Balance and transactions of one address; never 404."""
    listing = request.app[NETWORK].listing(instance_of(request))
    return json_body(200, listing.address_json(Address(request.match_info["address"])))


async def viewer(request: web.Request) -> web.Response:
    """The page of an instance."""
    name = instance_of(request)
    return html(200, pages.viewer(name, request.app[NETWORK].chain(name)))


async def documentation(request: web.Request) -> web.Response:
    """The API docs of an instance."""
    return html(200, pages.documentation(instance_of(request)))


async def hello(_: web.Request) -> web.Response:
    """The boilerplates' tests look for this word."""
    return html(200, pages.hello())


async def ready(_: web.Request) -> web.Response:
    """The list was read before the port was opened, so who answers is ready."""
    return json_body(200, b'{"status":"ok"}')


async def metrics(_: web.Request) -> web.Response:
    """Prometheus."""
    return web.Response(body=generate_latest(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST})


def preflight() -> web.Response:
    """What a browser asks before it posts JSON from another origin."""
    allowed = {"Access-Control-Allow-Methods": "GET, POST, OPTIONS", "Access-Control-Allow-Headers": "Content-Type"}
    return web.Response(status=204, headers=allowed)


def api_applied(_: InstanceName) -> web.Response:
    """The API says no more than this about a transaction that it made."""
    return json_body(200, b'{"status":"OK"}')


def api_refused(_request: web.Request, _name: InstanceName, status: int, error: ErrorBody) -> web.Response:
    """The API's error: a sentence, or messages by field."""
    return json_error(status, error)


def page_applied(name: InstanceName) -> web.Response:
    """Back to the viewer, by GET, so that a reload sends nothing twice."""
    return web.Response(status=303, headers={hdrs.LOCATION: f"/{name}"})


def page_refused(request: web.Request, name: InstanceName, status: int, error: ErrorBody) -> web.Response:
    """The viewer with what is wrong."""
    return html(status, pages.viewer(name, request.app[NETWORK].chain(name), error))


def json_error(status: int, error: ErrorBody) -> web.Response:
    """An error in the shape of every error here."""
    return json_body(status, error_json(error))


def json_body(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> web.Response:
    """JSON that is rendered already."""
    return web.Response(status=status, body=body, headers=headers, content_type="application/json")


def html(status: int, text: str) -> web.Response:
    """A page."""
    return web.Response(status=status, text=text, content_type="text/html")


GETS: Mapping[str, Handler] = {
    "": viewer,
    "/api": documentation,
    "/api/transactions": transactions,
    "/api/addresses/{address}": address,
}
POSTS: Mapping[str, Post] = {
    "/api/transactions": Post(read_transfer, api_applied, api_refused),
    "/api/create": Post(read_creation, api_applied, api_refused),
    "/send": Post(read_transfer, page_applied, page_refused),
    "/create": Post(read_creation, page_applied, page_refused),
}
