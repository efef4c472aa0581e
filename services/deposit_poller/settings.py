"""What the deposit poller reads from the environment."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from shared.domain.money import AmountError, parse_amount
from shared.mixer.jobcoin_rows import LEDGER_SCALE
from shared.mixer.settings import MixerSettings

MINIMUM_DEFAULT: Final = "0.0001"


def _amount(text: str) -> str:
    try:
        parse_amount(text, LEDGER_SCALE)
    except AmountError as error:
        raise ValueError(error.detail) from error
    return text


JobAmount = Annotated[str, AfterValidator(_amount)]


class PollerSettings(MixerSettings):
    """How often the list is read: while mixes are open, and otherwise; and what is worth a sweep and a credit."""

    poll_ms_open: int = Field(default=500, ge=10)
    poll_ms_idle: int = Field(default=2_000, ge=10)
    # In JOB. Less stays at its deposit address until more arrives.
    mix_credit_min: JobAmount = MINIMUM_DEFAULT
    mix_sweep_min: JobAmount = MINIMUM_DEFAULT

    @property
    def mix_minimum(self) -> int:
        """What an address must hold to be swept and credited, in minor units: a mix made now keeps it."""
        return max(parse_amount(text, LEDGER_SCALE) for text in (self.mix_credit_min, self.mix_sweep_min))
