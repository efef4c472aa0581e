"""Orders for the mixer, from the gateway to the deposit poller, which answers with a `Reply` as a worker does."""

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, model_validator

from shared.domain.ids import CommandId, derived_id
from shared.messages.base import Fingerprint, Id, Message, Owner

DESTINATIONS_MAX: Final = 20
ADDRESS_BYTES_MAX: Final = 4_096
# Parts per million: 1 percent is 10,000.
PPM_OF_PERCENT: Final = 10_000
FEE_PPM_MAX: Final = 100 * PPM_OF_PERCENT
DELAY_MS_MAX: Final = 7 * 86_400 * 1_000
# Defaults of an order: no fee, and the payouts spread over the ten seconds after the credit.
FEE_PPM_DEFAULT: Final = 0
DELAY_MS_MIN_DEFAULT: Final = 1_000
DELAY_MS_MAX_DEFAULT: Final = 10_000

# Any text, since the poller's answer says of each unusable address what is wrong with it.
Destination = Annotated[str, StringConstraints(max_length=ADDRESS_BYTES_MAX)]
DelayMs = Annotated[int, Field(ge=0, le=DELAY_MS_MAX)]


class MixCreate(Message):
    """A mix for `principal`: what arrives at its deposit address is paid on to `destinations`, less the fee.

    The mix's id and its deposit address are functions of `id`: see `mix_id` and `deposit_address`. `fingerprint` is
    over what the client sent.
    """

    kind: Literal["mix.create.v1"] = "mix.create.v1"
    id: Id
    principal: Owner
    fingerprint: Fingerprint
    destinations: Annotated[tuple[Destination, ...], Field(min_length=1, max_length=DESTINATIONS_MAX)]
    fee_ppm: Annotated[int, Field(ge=0, le=FEE_PPM_MAX)] = FEE_PPM_DEFAULT
    delay_ms_min: DelayMs = DELAY_MS_MIN_DEFAULT
    delay_ms_max: DelayMs = DELAY_MS_MAX_DEFAULT

    @model_validator(mode="after")
    def _ordered(self) -> "MixCreate":
        if self.delay_ms_min > self.delay_ms_max:
            raise ValueError("delay_ms_min is greater than delay_ms_max")
        return self


class MixMessage(Message):
    """One order. Mixes are rare beside transfers: nothing is gained by sending several in one message."""

    v: Literal[1] = 1
    order: MixCreate


def mix_id(command: CommandId) -> str:
    """The id of the mix that this order makes."""
    return derived_id(command, "mix")


def deposit_address(command: CommandId) -> str:
    """The network address of the mix that this order makes: 32 hex digits, as the network's other mixers give out."""
    return derived_id(command, "deposit-address").replace("-", "")
