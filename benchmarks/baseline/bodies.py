"""What the opponent takes: a transfer, as strictly as the gateway takes it (API.md), and nothing else."""

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from benchmarks.baseline.problems import Refusal
from shared.ids import ACCOUNT_ID, SYSTEM_ACCOUNT_ID
from shared.money import AmountError, parse_amount

BODY_BYTES_MAX: Final = 1024 * 1024
DEPTH_MAX: Final = 32
REFERENCE_CHARACTERS_MAX: Final = 256
METADATA_CHARACTERS_MAX: Final = 8_192
BRACKETS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')
SUSPICIOUS: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
REQUIRED: Final = ("source", "destination", "amount", "asset")
FIELDS: Final = frozenset({*REQUIRED, "reference", "metadata"})


@dataclass(frozen=True, slots=True)
class Transfer:
    """`amount` in minor units, `metadata` as JSON text; `fingerprint` is 16 bytes over what the client sent."""

    source: str
    destination: str
    amount: int
    asset: str
    reference: str | None
    metadata: str | None
    fingerprint: bytes


def parse_transfer(body: bytes, scales: dict[str, int]) -> Transfer:
    """The transfer that the body asks for. `scales`: asset → fraction digits. Raises Refusal."""
    fields = _object(body)
    if not FIELDS.issuperset(fields):
        raise Refusal(400, "invalid_request", "there is a field that a transfer does not have")
    for name in REQUIRED:
        if not isinstance(fields.get(name), str):
            raise Refusal(400, "invalid_request", f"{name}: a JSON string is expected", field=name)
    source, destination, amount, asset = (cast("str", fields[name]) for name in REQUIRED)
    for name, account in (("source", source), ("destination", destination)):
        if not ACCOUNT_ID.fullmatch(account) and not SYSTEM_ACCOUNT_ID.fullmatch(account):
            raise Refusal(400, "invalid_request", f"{name}: not the id of an account", field=name)
    reference, metadata = _reference(fields.get("reference")), _metadata(fields.get("metadata"))
    if (scale := scales.get(asset)) is None:
        raise Refusal(422, "unknown_asset", "there is no such asset", field="asset")
    try:
        minor = parse_amount(amount, scale)
    except AmountError as error:
        raise Refusal(400, error.code, error.detail, field="amount") from error
    content = ("POST /v1/transfers", source, destination, minor, asset, reference, metadata)
    mark = hashlib.blake2b(_COMPACT.encode(content).encode(), digest_size=16).digest()
    return Transfer(source, destination, minor, asset, reference, metadata, mark)


def _reference(value: object) -> str | None:
    if value is None or (isinstance(value, str) and 1 <= len(value) <= REFERENCE_CHARACTERS_MAX):
        return value
    raise Refusal(400, "invalid_request", f"reference: 1 to {REFERENCE_CHARACTERS_MAX} characters", field="reference")


def _metadata(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise Refusal(400, "invalid_request", "metadata: an object is expected", field="metadata")
    text = _CANONICAL.encode(value)
    if len(text) > METADATA_CHARACTERS_MAX:
        raise Refusal(
            400, "invalid_request", f"metadata: at most {METADATA_CHARACTERS_MAX} characters", field="metadata"
        )
    return text


def _object(body: bytes) -> dict[str, object]:
    """Strict JSON: UTF-8, no key twice, no NaN, no lone surrogate or NUL, not too deep."""
    if body.count(b"{") + body.count(b"[") > DEPTH_MAX:
        _check_depth(body)
    try:
        text = body.decode()
        value: object = _DECODER.decode(text)
        if SUSPICIOUS.search(text):
            _check_texts(value)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "invalid_request", "the body is not one strict JSON value") from error
    if not isinstance(value, dict):
        raise Refusal(400, "invalid_request", "the body is not a JSON object")
    return cast("dict[str, object]", value)


def _check_texts(value: object) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("a text holds the character NUL")
        value.encode()
    elif isinstance(value, dict):
        for pair in cast("dict[str, object]", value).items():
            _check_texts(list(pair))
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            _check_texts(item)


def _check_depth(body: bytes) -> None:
    depth = 0
    for match in BRACKETS.finditer(body):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(match[0], 0)
        if depth > DEPTH_MAX:
            raise Refusal(400, "invalid_request", f"the body nests deeper than {DEPTH_MAX}")


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("an object has a key twice")
    return mapping


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is beyond the range of a double")
    return number


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant)
_COMPACT: Final = json.JSONEncoder(separators=(",", ":"))
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
