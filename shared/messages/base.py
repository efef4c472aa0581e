"""The fields and bounds that messages have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared.domain.ids import ASSET_CODE, UUID_TEXT, AccountId, AssetCode, CommandId, HoldId, Principal
from shared.domain.money import AMOUNT_MINOR_MAX, BALANCE_MINOR_MAX

COMMANDS_PER_ENVELOPE_MAX = 1_000
ENVELOPE_BYTES_MAX = 512 * 1024

# Ids are looked up in the database before a command is decided. Any other text than a UUID would make that query fail
# for ever, and block the queue.
_UUID = f"^{UUID_TEXT.pattern}$"
Id = Annotated[CommandId, StringConstraints(pattern=_UUID)]
# Wider than the ids that clients may choose, since names of system accounts hold an asset code in upper case.
Account = Annotated[AccountId, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")]
Hold = Annotated[HoldId, StringConstraints(pattern=_UUID)]
Asset = Annotated[AssetCode, StringConstraints(pattern=f"^{ASSET_CODE.pattern}$")]
Owner = Annotated[Principal, StringConstraints(min_length=1, max_length=128)]
Fingerprint = Annotated[str, StringConstraints(min_length=32, max_length=32)]  # hex digits
# Minor units, as JSON integers of any length: sender and worker are both this code and parse them exactly.
Amount = Annotated[int, Field(gt=0, le=AMOUNT_MINOR_MAX)]
Limit = Annotated[int, Field(ge=0, le=BALANCE_MINOR_MAX)]
Text = Annotated[str, StringConstraints(max_length=16_384)]


class Message(BaseModel):
    """Frozen and closed: an unknown field means another version of the message, and is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
