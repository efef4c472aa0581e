"""The document says what is served, no more and no less, and the committed one is today's."""

import json
import re
from typing import cast

from services.gateway.app import ROUTES
from services.gateway.openapi import document, document_bytes
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
        assert not route.writes or route.scope is not None
