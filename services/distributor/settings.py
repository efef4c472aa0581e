"""What the distributor reads from the environment."""

from typing import Final

from pydantic import Field

from shared.domain.money import parse_amount
from shared.mixer.jobcoin_rows import LEDGER_SCALE
from shared.mixer.settings import MixerSettings

COINS: Final = r"^[0-9]{1,12}(\.[0-9]{1,18})?$"


class DistributorSettings(MixerSettings):
    """How a credit is divided, and how often it looks for work that nothing announced."""

    # No payout is smaller, in JOB; a credit that is becomes one payout. Each costs two transfers on the network.
    mix_payout_min: str = Field(default="0.0001", pattern=COINS)
    # How soon a funding that was taken for absent is looked for; later ever more rarely, down to once a day.
    reclaim_s: float = Field(default=30.0, gt=0)

    @property
    def payout_min_minor(self) -> int:
        """The smallest payout in minor units, at least 1."""
        return parse_amount(self.mix_payout_min, LEDGER_SCALE) if self.mix_payout_min.strip("0.") else 1
