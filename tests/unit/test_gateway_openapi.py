"""The document says what is served, no more and no less, and the committed one is today's."""

import json
import re
from dataclasses import replace
from typing import cast

from services.gateway.api.openapi import document, document_bytes
from services.gateway.app import ROUTES
from shared.domain.api_keys import Scope
from tests.tree import ROOT

Json = dict[str, object]


def test_the_committed_document_is_todays() -> None:
    committed = (ROOT / "docs" / "openapi.json").read_bytes()
    assert committed == document_bytes(ROUTES), "run: python -m services.gateway openapi > docs/openapi.json"


def test_every_route_is_in_the_document_and_nothing_else() -> None:
    paths = cast("dict[str, Json]", document(ROUTES)["paths"])
    documented = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert documented == {(route.method, route.path) for route in ROUTES}


def test_every_reference_leads_somewhere_and_every_operation_has_its_own_name() -> None:
    text = document_bytes(ROUTES).decode()
    whole = cast("Json", json.loads(text))
    schemas = cast("Json", cast("Json", whole["components"])["schemas"])
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', text)) <= set(schemas)
    names = re.findall(r'"operationId": "([^"]+)"', text)
    assert len(names) == len(set(names)) == len(ROUTES)


def test_amounts_are_texts_in_every_body() -> None:
    schemas = cast("dict[str, Json]", cast("Json", document(ROUTES)["components"])["schemas"])
    for name, schema in schemas.items():
        for field, shape in cast("dict[str, Json]", schema.get("properties", {})).items():
            if field in {"amount", "balance", "held", "available", "delta"}:
                assert shape["type"] == "string", (name, field)


def test_what_writes_takes_a_key_and_needs_a_scope() -> None:
    for route in ROUTES:
        assert route.writes == (route.method != "GET")
        assert not route.writes or route.scopes


def operation_of(path: str, method: str, **changed: object) -> Json:
    """The operation as documented, of a route changed as said."""
    (route,) = [each for each in ROUTES if (each.path, each.method) == (path, method)]
    paths = cast("dict[str, dict[str, Json]]", document([replace(route, **changed)])["paths"])
    return paths[path][method.lower()]


def test_the_202_of_every_write_says_what_its_body_is() -> None:
    for route in ROUTES:
        responses = cast("dict[str, Json]", operation_of(route.path, route.method)["responses"])
        assert ("202" in responses) == route.writes
        if route.writes:
            content = cast("dict[str, Json]", responses["202"]["content"])
            assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/AcceptedBody"}


def test_every_scope_that_will_do_is_named() -> None:
    one = operation_of("/v1/transfers", "POST")
    assert (one["description"], one["security"]) == ("Needs the scope `write`.", [{"key": []}])
    some = operation_of("/v1/transfers", "POST", scopes=(Scope.PAYOUT, Scope.WRITE))
    assert some["description"] == "Needs the scope `payout` or `write`."
    assert "security" not in operation_of("/livez", "GET")


def test_a_schema_has_only_words_that_json_schema_knows() -> None:
    """Pydantic writes bounds that it cannot translate under its own names."""
    assert not re.findall(r'"(?:ge|le|gt|lt|multiple_of|strict)":', document_bytes(ROUTES).decode())
