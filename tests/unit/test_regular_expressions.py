"""Every regular expression of the product takes time that grows as its input does, whatever the input is.

Python's engine backtracks, and a search starts anew at every character: one body of 16 KB once took seconds. Each
expression has samples here that it matches and that pass through each of its parts. The attacks repeat every part of a
sample many times and then break the match off.
"""

import ast
import importlib
import pkgutil
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, cast

import pytest
from pydantic import BaseModel
from pydantic_core import SchemaValidator, ValidationError, core_schema

import services
import shared
import tellerline
from services.gateway.app import ROUTES
from services.gateway.http.routing import Router
from tests import tree

CHARACTERS: Final = 40_000
PART_CHARACTERS_MAX: Final = 4
# A linear pass over an attack takes well under a millisecond, a quadratic one half a second and more.
SECONDS_MAX: Final = 0.2
UUID: Final = "0123abcd-0123-4567-89ab-0123456789ab"
ACCOUNTS: Final = ("a1.b", "world:BTC:12", "transit:BTC:1:in:12")

# The text of an expression → samples.
SAMPLES: Final = {
    r"[a-z0-9][a-z0-9._:-]{0,63}": ACCOUNTS[:1],
    r"^[a-z0-9][a-z0-9._:-]{0,63}$": ACCOUNTS[:1],
    r"(?:world|house|fees|fx|suspense):[A-Z][A-Z0-9._-]{0,15}:[0-9]{1,3}"
    r"|transit:[A-Z][A-Z0-9._-]{0,15}:[0-9]{1,3}:(?:in|out):[0-9]{1,3}": ACCOUNTS[1:],
    r"^(?:[a-z0-9][a-z0-9._:-]{0,63}|(?:world|house|fees|fx|suspense):[A-Z][A-Z0-9._-]{0,15}:[0-9]{1,3}"
    r"|transit:[A-Z][A-Z0-9._-]{0,15}:[0-9]{1,3}:(?:in|out):[0-9]{1,3})$": ACCOUNTS,
    r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$": ACCOUNTS[:1],
    r"[A-Z][A-Z0-9._-]{0,15}": ("A1.",),
    r"^[A-Z][A-Z0-9._-]{0,15}$": ("A1.",),
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}": (UUID,),
    r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$": (UUID,),
    r"^[0-9a-f]{32}$": ("0123456789abcdef" * 2,),
    r"[0-9a-f]{32}": ("0123456789abcdef" * 2,),
    r"[0-9a-f]{1,15}": ("6478a2b1c3d4e",),
    r"([0-9]{1,30})(?:\.([0-9]{1,30}))?": ("12.34",),
    r"^[0-9]{1,30}(\.[0-9]{1,30})?$": ("12.34",),
    r"^[0-9]{1,2}(\.[0-9]{1,4})?$": ("12.34",),
    r"^[0-9]{1,12}(\.[0-9]{1,18})?$": ("12.34",),
    r"([0-9]{0,80})(?:\.([0-9]{0,80}))?": ("12.34",),
    r"(-?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?": ("-12.34e-56",),
    r"[0-9]{1,15}(?:\.[0-9]{1,15})?": ("12.34",),
    r"[0-9]{1,9}": ("12",),
    r"[1-9][0-9]{0,17}": ("12",),
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})": (
        "2026-01-31T12:34:56.789Z",
        "2026-01-31T12:34:56+01:00",
    ),
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z": ("2026-01-31T12:34:56.789Z",),
    r"^[A-Za-z0-9._-]{1,64}$": ("aA_",),
    r"^[A-Za-z0-9_-]{1,128}$": ("aA_",),
    r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}": ("aA_",),
    r"^[A-Za-z0-9_-]{1,512}$": ("aA_",),
    r"^[A-Za-z0-9._-]+$": ("aA_",),
    r"[A-Za-z0-9._:-]{1,128}": ("aA_",),
    r"(?!tellerline:)[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}": ("a1@b",),
    r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$": ("a1@b",),
    r"pay-[0-9a-f-]{36}": (f"pay-{UUID}",),
    r"[\x20-\x7e]{1,255}": ("a key!",),
    r"[\x21-\x7e]{16,200}": ("tl_0123456789abcdef!",),
    r'\[\["((?!transit:)[^"\\]*)","((?!transit:)[^"\\]*)","([1-9][0-9]{0,30})","([^"\\]*)"\]\]': (
        '[["alice","bob","12","USD"]]',
    ),
    r"wait\s*=\s*\"?([0-9]{1,9})\"?": ('wait = "10"',),
    r"\\(.)": (r"\n",),
    r"\\u(?:0000|[dD][89a-fA-F])": (r"\u0000", r"\udc"),
    r"\{(\w+)\}": ("{id}",),
    r'\b((?:wal_)?data_dir\s*=>\s*)(?:"(?:[^"\\]|\\.)*"(?:\s*"(?:[^"\\]|\\.)*")*|\[[\d,\s]*\])': (
        'data_dir => "/srv/a\\\\b"  "c"',
        "wal_data_dir =>  [47, 11]",
    ),
    r"^https?://.+/.+$": ("https://host.name/some/path",),
}
# Where an expression is no constant of a module → why its input is harmless, or which other test covers it.
INLINE: Final = {
    ("services/gateway/http/routing.py", "re.compile"): "a route's path: ROUTE_SAMPLES",
    ("services/gateway/http/routing.py", "re.sub"): "reads our own paths",
    ("services/gateway/api/openapi.py", "re.findall"): "reads our own paths",
    ("tellerline/local_stack/servers/postgres.py", "re.search"): "reads the name of a folder of PostgreSQL",
}
SEGMENT: Final = "a%2F"
CALLS: Final = {"compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}


def attacks(sample: str) -> Iterator[str]:
    """Texts in which one part of the sample stands very often, and which end as no match does."""
    for first in range(len(sample)):
        for end in range(first + 1, min(first + PART_CHARACTERS_MAX, len(sample)) + 1):
            part = sample[first:end]
            yield sample[:first] + part * (CHARACTERS // len(part)) + "\x00\n"


def check_time(match: Callable[[str], object], sample: str) -> None:
    for text in attacks(sample):
        began = time.process_time()
        match(text)
        assert time.process_time() - began < SECONDS_MAX, f"{text[:40]!r} …"


def every_match(expression: "re.Pattern[str]") -> Callable[[str], object]:
    """Matches and searches: a search, too, must stay linear, whatever the expression is used for today."""
    return lambda text: (expression.fullmatch(text), sum(1 for _ in expression.finditer(text)))


def modules() -> list[dict[str, object]]:
    return [
        vars(importlib.import_module(module.name))
        for package in (services, shared, tellerline)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not module.name.endswith("__main__")
    ]


def compiled() -> dict[str, "re.Pattern[str]"]:
    """Every expression that is a constant of a module."""
    expressions = [
        cast("re.Pattern[str]", value)
        for module in modules()
        for value in module.values()
        if isinstance(value, re.Pattern)
    ]
    assert all(isinstance(expression.pattern, str) for expression in expressions), "samples are text"
    return {expression.pattern: expression for expression in expressions}


def of_models() -> set[str]:
    """Every pattern in the schema of a model."""
    modules()
    found: set[str] = set()
    waiting: list[type[BaseModel]] = [BaseModel]
    while waiting:
        model = waiting.pop()
        waiting += model.__subclasses__()
        if model.__module__.split(".")[0] in {"services", "shared", "tellerline"}:
            found |= set(patterns_in(model.__pydantic_core_schema__))
    return found


def patterns_in(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        fields = cast("dict[str, object]", schema)
        if fields.get("type") == "str" and "pattern" in fields:
            assert isinstance(fields["pattern"], str), "a compiled pattern would run on Python's engine"
            assert fields.get("regex_engine") in {None, "rust-regex"}
            yield fields["pattern"]
        for field in fields.values():
            yield from patterns_in(field)
    elif isinstance(schema, Sequence) and not isinstance(schema, str):
        for item in cast("Sequence[object]", schema):
            yield from patterns_in(item)


COMPILED: Final = compiled()
OF_MODELS: Final = of_models()


def test_every_regular_expression_has_samples() -> None:
    assert COMPILED.keys() | OF_MODELS == SAMPLES.keys()


@pytest.mark.parametrize("text", sorted(COMPILED))
def test_an_expression_takes_linear_time(text: str) -> None:
    expression = COMPILED[text]
    for sample in SAMPLES[text]:
        assert expression.search(sample), sample
        check_time(every_match(expression), sample)


@pytest.mark.parametrize("text", sorted(OF_MODELS))
def test_a_pattern_of_a_model_takes_linear_time(text: str) -> None:
    validator = SchemaValidator(core_schema.str_schema(pattern=text))

    def match(attack: str) -> None:
        try:
            validator.validate_python(attack)
        except ValidationError:
            return

    for sample in SAMPLES[text]:
        assert validator.validate_python(sample) == sample
        check_time(match, sample)


def test_finding_a_route_takes_linear_time() -> None:
    for expression, _ in Router(ROUTES).patterns:
        path = re.sub(r"\(\?P<\w+>\[\^/\]\+\)", SEGMENT, expression.pattern).replace("\\", "")
        assert expression.fullmatch(path), path
        check_time(every_match(expression), path)


def test_an_expression_is_a_constant_of_its_module() -> None:
    """So that it is found here. Those of INLINE are not."""
    for path in tree.python_files(tests=False):
        if path.parts[0] == "benchmarks":
            continue
        module = tree.tree(path)
        constants = {
            id(node.value) for node in module.body if isinstance(node, ast.Assign | ast.AnnAssign) and node.value
        }
        for call in ast.walk(module):
            match call:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr=name)) if name in CALLS:
                    if name != "compile" or id(call) not in constants:
                        assert (str(path), f"re.{name}") in INLINE, f"{path}:{call.lineno}"
                case _:
                    pass


def test_the_attacks_find_an_expression_that_backtracks() -> None:
    with pytest.raises(AssertionError):
        check_time(every_match(re.compile(r"\s*x")), "  x")
