"""What the baseline takes: a transfer, as strictly as the gateway takes it (docs/API.md), and nothing else."""

import hashlib
import json
from dataclasses import dataclass
from typing import Final, cast

from benchmarks.baseline.problems import Refusal
from shared.domain.ids import ACCOUNT_ID, SYSTEM_ACCOUNT_ID
from shared.domain.metadata import METADATA_CHARACTERS_MAX
from shared.domain.money import AmountError, parse_amount
from shared.runtime import strict_json

BODY_BYTES_MAX: Final = 1024 * 1024
REFERENCE_CHARACTERS_MAX: Final = 256
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
    try:
        text = _CANONICAL.encode(value)
    except TypeError as error:
        raise Refusal(400, "invalid_request", "metadata: send long numbers as strings", field="metadata") from error
    if len(text) > METADATA_CHARACTERS_MAX:
        raise Refusal(
            400, "invalid_request", f"metadata: at most {METADATA_CHARACTERS_MAX} characters", field="metadata"
        )
    return text


def _object(body: bytes) -> dict[str, object]:
    """The fields of the one JSON object that the body is, read by the gateway's own parser. Raises Refusal."""
    try:
        value = strict_json.parse(body)
    except strict_json.NotStrictJson as error:
        raise Refusal(400, "invalid_request", str(error)) from error
    if not isinstance(value, dict):
        raise Refusal(400, "invalid_request", "the body is not a JSON object")
    return cast("dict[str, object]", value)


_COMPACT: Final = json.JSONEncoder(separators=(",", ":"))
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
