"""GET /, /openapi.json, /docs and /problems: the API's description of itself, for programs and people."""

from functools import cache
from pathlib import Path
from typing import Final

from typing_extensions import TypedDict

from services.gateway.http.problems import PROBLEM_TYPES, problem_code
from services.gateway.http.request import RequestContext
from services.gateway.http.response import HttpResponse, json_response
from services.gateway.http.routing import RouteTable
from services.gateway.usecases.faults import NotFound

ROUTES: Final = RouteTable()

STATIC: Final = Path(__file__).parent.parent / "static"
FILES: Final = {
    "docs.js": (STATIC / "docs.js", "text/javascript; charset=utf-8"),
    "swagger-ui-bundle.js": (STATIC / "swagger-ui" / "swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    "swagger-ui.css": (STATIC / "swagger-ui" / "swagger-ui.css", "text/css; charset=utf-8"),
    "LICENSE": (STATIC / "swagger-ui" / "LICENSE", "text/plain; charset=utf-8"),
}
SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)
PAGE_HEADERS: Final = {
    "Content-Security-Policy": SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
FILE_HEADERS: Final = {**PAGE_HEADERS, "Cache-Control": "public, max-age=3600"}


class RootBody(TypedDict):
    """Where everything begins. A link with `{id}` in it is a URI template (RFC 6570)."""

    name: str
    version: str
    links: dict[str, str]


class ProblemKind(TypedDict):
    """One kind of problem."""

    type: str
    code: str
    status: int
    title: str


NOUNS: Final = ("assets", "accounts", "deposits", "withdrawals", "transfers", "transactions", "mixes")


@ROUTES.add("GET", "/", answers={200: RootBody})
async def root(_: RequestContext) -> HttpResponse:
    """Links to what there is."""
    links = {"self": "/", **{noun: f"/v1/{noun}" for noun in NOUNS}}
    links |= {
        # Operations are not listed: each is known by the id that its write was answered with.
        "operations": "/v1/operations/{id}",
        "openapi": "/openapi.json",
        "docs": "/docs",
        "livez": "/livez",
        "readyz": "/readyz",
    }
    return json_response(200, {"name": "Tellerline", "version": "1", "links": links})


@ROUTES.add("GET", "/openapi.json", answers={200: None})
async def openapi(context: RequestContext) -> HttpResponse:
    """The OpenAPI document of the routes that are served."""
    return HttpResponse(200, context.server.openapi)


@ROUTES.add("GET", "/docs", answers={200: None})
async def page(_: RequestContext) -> HttpResponse:
    """Swagger UI."""
    return HttpResponse(200, _bytes(STATIC / "docs.html"), PAGE_HEADERS, "text/html; charset=utf-8")


@ROUTES.add("GET", "/docs/{name}", answers={200: None})
async def file(context: RequestContext) -> HttpResponse:
    """A file of Swagger UI."""
    found = FILES.get(context.path["name"])
    if found is None:
        raise NotFound("file")
    path, media_type = found
    return HttpResponse(200, _bytes(path), FILE_HEADERS, media_type)


@ROUTES.add("GET", "/problems/{code}", answers={200: ProblemKind})
async def problem(context: RequestContext) -> HttpResponse:
    """What a problem means."""
    try:
        code = problem_code(context.path["code"])
    except KeyError as error:
        raise NotFound("problem") from error
    kind = PROBLEM_TYPES[code]
    body: ProblemKind = {"type": f"/problems/{code}", "code": code.value, "status": kind.status, "title": kind.title}
    return json_response(200, body)


@cache
def _bytes(path: Path) -> bytes:
    return path.read_bytes()
