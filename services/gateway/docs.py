"""GET /, /openapi.json, /docs and /problems: what this is, for machines and people."""

from functools import cache
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from services.gateway.context import not_found
from services.gateway.problems import code_named, problem_of
from services.gateway.routes import Call, Route
from services.gateway.web.answers import Answer

STATIC: Final = Path(__file__).parent / "static"
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


ROOT: TypeAdapter[RootBody] = TypeAdapter(RootBody)
PROBLEM_KIND: TypeAdapter[ProblemKind] = TypeAdapter(ProblemKind)
NOUNS: Final = ("assets", "accounts", "deposits", "withdrawals", "transfers", "transactions", "mixes")


async def root(_: Call) -> Answer:
    """Links to what there is."""
    links = {"self": "/", **{noun: f"/v1/{noun}" for noun in NOUNS}}
    links |= {
        # Operations are not listed: each is known by the id that its write was answered with.
        "operations": "/v1/operations/{id}",
        "openapi": "/openapi.json",
        "docs": "/docs",
        "livez": "/livez",
        "readyz": "/readyz",
        "metrics": "/metrics",
    }
    return Answer(200, ROOT.dump_json({"name": "Tellerline", "version": "1", "links": links}))


async def openapi(call: Call) -> Answer:
    """The OpenAPI document of exactly the routes that are served."""
    return Answer(200, call.gateway.openapi)


async def page(_: Call) -> Answer:
    """Swagger UI over the document."""
    return Answer(200, _bytes(STATIC / "docs.html"), PAGE_HEADERS, "text/html; charset=utf-8")


async def file(call: Call) -> Answer:
    """One of the page's files."""
    found = FILES.get(call.path["name"])
    if found is None:
        raise not_found("file")
    path, media_type = found
    return Answer(200, _bytes(path), FILE_HEADERS, media_type)


async def problem(call: Call) -> Answer:
    """What a problem's `type` points to."""
    try:
        code = code_named(call.path["code"])
    except KeyError as error:
        raise not_found("problem") from error
    kind = problem_of(code)
    body: ProblemKind = {"type": f"/problems/{code}", "code": code.value, "status": kind.status, "title": kind.title}
    return Answer(200, PROBLEM_KIND.dump_json(body))


@cache
def _bytes(path: Path) -> bytes:
    return path.read_bytes()


ROUTES: Final = (
    Route(method="GET", path="/", handler=root, answers={200: RootBody}, summary="Links to what there is"),
    Route(method="GET", path="/openapi.json", handler=openapi, answers={200: None}, summary="This document"),
    Route(method="GET", path="/docs", handler=page, answers={200: None}, summary="Swagger UI"),
    Route(method="GET", path="/docs/{name}", handler=file, answers={200: None}, summary="A file of Swagger UI"),
    Route(
        method="GET",
        path="/problems/{code}",
        handler=problem,
        answers={200: ProblemKind},
        summary="What a problem means",
    ),
)
