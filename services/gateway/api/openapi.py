"""The OpenAPI 3.1 document, generated from the routes and from the models that validate requests and type answers.

`python -m services.gateway openapi` prints it; docs/openapi.json holds what it printed last, and a test compares.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final, cast

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from services.gateway.api.writes import AcceptedBody
from services.gateway.http.problems import ProblemBody
from services.gateway.http.routing import Route

Json = dict[str, object]

PARAMETER: Final = re.compile(r"\{(\w+)\}")
TITLES: Final = {201: "Done", 200: "OK", 204: "Done, nothing to show", 503: "Not ready"}
WRITE_HEADERS: Final = (
    (
        "Idempotency-Key",
        "Repeats with the same key and content get the first outcome.",
        {"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$"},
    ),
    (
        "Prefer",
        "`wait=N` (seconds, 0 to 30, 5 unless said) or `respond-async`.",
        {"type": "string", "examples": ["wait=10"]},
    ),
)


def document(routes: Sequence[Route]) -> Json:
    """The whole document."""
    schemas = _Schemas(routes)
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tellerline",
            "version": "1",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Wallet and ledger over HTTP. Amounts are decimal strings in units of the asset; "
            "problems are RFC 9457; writes take an Idempotency-Key.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key"}},
        },
    }


def document_bytes(routes: Sequence[Route]) -> bytes:
    """The document as it is served and committed."""
    return (json.dumps(document(routes), indent=1, sort_keys=True) + "\n").encode()


class _Schemas:
    """JSON Schemas of every model of the routes, with one name for each."""

    def __init__(self, routes: Sequence[Route]) -> None:
        wanted: dict[tuple[type[object], JsonSchemaMode], TypeAdapter[object]] = {
            (ProblemBody, "serialization"): TypeAdapter(ProblemBody),
            (AcceptedBody, "serialization"): TypeAdapter(AcceptedBody),
        }
        for route in routes:
            for shape in (route.body, route.query):
                if shape is not None:
                    wanted[shape, "validation"] = TypeAdapter(shape)
            for shape in route.answers.values():
                if shape is not None:
                    wanted[shape, "serialization"] = TypeAdapter(shape)
        inputs: list[tuple[type[object], JsonSchemaMode, TypeAdapter[object]]] = [
            (shape, mode, adapter) for (shape, mode), adapter in wanted.items()
        ]
        self._refs, definitions = TypeAdapter.json_schemas(inputs, ref_template="#/components/schemas/{model}")
        self.components = cast("Json", definitions.get("$defs", {}))

    def of(self, shape: type[object], mode: JsonSchemaMode) -> Json:
        """The JSON Schema of a model: a `$ref` into `components`, or the schema itself."""
        return cast("Json", self._refs[shape, mode])

    def properties(self, shape: type[object]) -> Mapping[str, Json]:
        """Field → JSON Schema, of a model that is read from a query."""
        schema = self.of(shape, "validation")
        name = str(schema.get("$ref", "")).rpartition("/")[2]
        return cast("Mapping[str, Json]", cast("Json", self.components.get(name, schema)).get("properties", {}))


def _operation(route: Route, schemas: _Schemas) -> Json:
    segments = [part for part in route.path.split("/") if part and not part.startswith("{")]
    operation: Json = {
        "summary": route.summary,
        "operationId": "_".join([route.method.lower(), *re.findall(r"\w+", route.path)]),
        "tags": [segments[1] if segments[:1] == ["v1"] else "service"],
        "parameters": _parameters(route, schemas),
        "responses": _responses(route, schemas),
    }
    if route.body is not None:
        content = {"application/json": {"schema": schemas.of(route.body, "validation")}}
        operation["requestBody"] = {"required": True, "content": content}
    if route.scopes:
        operation["security"] = [{"key": []}]
        operation["description"] = f"Needs the scope {' or '.join(f'`{each}`' for each in route.scopes)}."
    return operation


def _parameters(route: Route, schemas: _Schemas) -> list[Json]:
    parameters = [_parameter("path", name, {"type": "string"}, required=True) for name in PARAMETER.findall(route.path)]
    if route.query is not None:
        properties = schemas.properties(route.query)
        parameters += [_parameter("query", name, schema) for name, schema in properties.items()]
    if route.writes:
        parameters += [
            {**_parameter("header", name, schema), "description": why} for name, why, schema in WRITE_HEADERS
        ]
    return parameters


def _parameter(place: str, name: str, schema: Mapping[str, object], *, required: bool = False) -> Json:
    return {"name": name, "in": place, "required": required, "schema": dict(schema)}


def _responses(route: Route, schemas: _Schemas) -> Json:
    responses: Json = {}
    for status, shape in route.answers.items():
        response: Json = {"description": TITLES[status]}
        if shape is not None:
            response["content"] = {"application/json": {"schema": schemas.of(shape, "serialization")}}
        responses[str(status)] = response
    if route.writes:
        responses["202"] = {
            "description": "No outcome yet: ask the operation that `Location` names",
            "content": {"application/json": {"schema": schemas.of(AcceptedBody, "serialization")}},
        }
    problem = {"schema": schemas.of(ProblemBody, "serialization")}
    responses["default"] = {"description": "A problem", "content": {"application/problem+json": problem}}
    return responses
