"""The fields and bounds that messages have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared.domain.ids import AccountId, AssetCode, CommandId, HoldId, Principal
from shared.domain.money import AMOUNT_MINOR_MAX, BALANCE_MINOR_MAX

COMMANDS_PER_ENVELOPE_MAX = 1_000
ENVELOPE_BYTES_MAX = 512 * 1024

# What the database looks up before anything is decided must be a value of the column's type, or its line would wait
# for ever.
_UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
Id = Annotated[CommandId, StringConstraints(pattern=_UUID)]
# Wider than what clients may choose: accounts of the ledger carry an asset code.
Account = Annotated[AccountId, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")]
Hold = Annotated[HoldId, StringConstraints(pattern=_UUID)]
Asset = Annotated[AssetCode, StringConstraints(pattern=r"^[A-Z][A-Z0-9._-]{0,15}$")]
Owner = Annotated[Principal, StringConstraints(min_length=1, max_length=128)]
# Minor units, as JSON integers of any length: both ends are ours and read them exactly.
Amount = Annotated[int, Field(gt=0, le=AMOUNT_MINOR_MAX)]
Limit = Annotated[int, Field(ge=0, le=BALANCE_MINOR_MAX)]
Text = Annotated[str, StringConstraints(max_length=16_384)]


class Message(BaseModel):
    """Frozen and closed: an unknown field is a message of a version that we do not speak."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
