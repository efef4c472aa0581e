"""The fields that bodies have in common, and what turns them into what the ledger understands."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, Field, StringConstraints

from services.gateway.problems import Refusal, code_named
from shared.compact_json import compact_json
from shared.ids import ACCOUNT_ID, SYSTEM_ACCOUNT_ID, AccountId, AssetCode, Principal
from shared.money import AmountError, parse_amount

REFERENCE_CHARACTERS_MAX: Final = 256
METADATA_CHARACTERS_MAX: Final = 8_192

ASSET_PATTERN: Final = r"^[A-Z][A-Z0-9._-]{0,15}$"
AMOUNT_PATTERN: Final = r"^[0-9]{1,30}(\.[0-9]{1,30})?$"
PRINCIPAL_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$"

AccountName = Annotated[
    AccountId,
    StringConstraints(pattern=f"^(?:{ACCOUNT_ID.pattern}|{SYSTEM_ACCOUNT_ID.pattern})$"),
    Field(examples=["alice"]),
]
NewAccountName = Annotated[AccountId, StringConstraints(pattern=f"^{ACCOUNT_ID.pattern}$"), Field(examples=["alice"])]
AssetName = Annotated[AssetCode, StringConstraints(pattern=ASSET_PATTERN), Field(examples=["USD"])]
AmountText = Annotated[
    str,
    StringConstraints(pattern=AMOUNT_PATTERN),
    Field(description="in units of the asset", examples=["12.34"]),
]
OwnerName = Annotated[Principal, StringConstraints(pattern=PRINCIPAL_PATTERN)]
ReferenceText = Annotated[str, StringConstraints(min_length=1, max_length=REFERENCE_CHARACTERS_MAX)]


def check_metadata(metadata: dict[str, object]) -> dict[str, object]:
    """Raises ValueError when the canonical text would be too long."""
    if len(canonical_json(metadata)) > METADATA_CHARACTERS_MAX:
        raise ValueError(f"metadata has at most {METADATA_CHARACTERS_MAX} characters")
    return metadata


Metadata: TypeAlias = Annotated[dict[str, object], AfterValidator(check_metadata)]


def canonical_json(value: Mapping[str, object]) -> str:
    """One text for one value: sorted keys, no spaces."""
    return _CANONICAL.encode(value)


_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def metadata_text(metadata: Mapping[str, object] | None) -> str | None:
    """Metadata as the journal keeps it."""
    return None if metadata is None else canonical_json(metadata)


def fingerprint(route: str, *content: str | int | Sequence[str] | None) -> str:
    """32 hex digits over method, route and what the client sent, amounts canonical (DESIGN §4.6)."""
    return hashlib.blake2b(compact_json((route, *content)), digest_size=16).hexdigest()


def canonical_amount(text: str) -> str:
    """One text for one amount, whatever the asset's scale: no zeros in front or at the end."""
    whole, _, fraction = text.partition(".")
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def minor_units(field_name: str, text: str, scale: int) -> int:
    """The amount in minor units. Raises Refusal with the code of API.md that names the field."""
    try:
        return parse_amount(text, scale)
    except AmountError as error:
        raise Refusal(
            code_named(error.code),
            f"{field_name}: {error.detail}",
            errors=[{"field": field_name, "message": error.detail}],
        ) from error


def minor_units_or_zero(field_name: str, text: str, scale: int) -> int:
    """As `minor_units`, but a limit may be zero."""
    return 0 if not text.strip("0.") else minor_units(field_name, text, scale)
