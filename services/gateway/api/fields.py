"""Types of fields that several bodies have."""

from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, Field, StringConstraints

from shared.domain.ids import ACCOUNT_ID, ASSET_CODE, SYSTEM_ACCOUNT_ID, AccountId, AssetCode, Principal
from shared.domain.metadata import METADATA_CHARACTERS_MAX, canonical_json

REFERENCE_CHARACTERS_MAX: Final = 256

AMOUNT_PATTERN: Final = r"^[0-9]{1,30}(\.[0-9]{1,30})?$"
PRINCIPAL_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$"

AccountName = Annotated[
    AccountId,
    StringConstraints(pattern=f"^(?:{ACCOUNT_ID.pattern}|{SYSTEM_ACCOUNT_ID.pattern})$"),
    Field(examples=["alice"]),
]
NewAccountName = Annotated[AccountId, StringConstraints(pattern=f"^{ACCOUNT_ID.pattern}$"), Field(examples=["alice"])]
AssetName = Annotated[AssetCode, StringConstraints(pattern=f"^{ASSET_CODE.pattern}$"), Field(examples=["USD"])]
AmountText = Annotated[
    str,
    StringConstraints(pattern=AMOUNT_PATTERN),
    Field(description="in units of the asset", examples=["12.34"]),
]
OwnerName = Annotated[Principal, StringConstraints(pattern=PRINCIPAL_PATTERN)]
ReferenceText = Annotated[str, StringConstraints(min_length=1, max_length=REFERENCE_CHARACTERS_MAX)]


def check_metadata(metadata: dict[str, object]) -> dict[str, object]:
    """The metadata itself. Raises ValueError for a number that a double does not hold, or a text that is too long."""
    try:
        text = canonical_json(metadata)
    except TypeError as error:
        raise ValueError("a number in it is one that a double does not hold: send it as a string") from error
    if len(text) > METADATA_CHARACTERS_MAX:
        raise ValueError(f"metadata has at most {METADATA_CHARACTERS_MAX} characters")
    return metadata


Metadata: TypeAlias = Annotated[dict[str, object], AfterValidator(check_metadata)]
