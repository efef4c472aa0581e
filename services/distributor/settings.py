"""What the distributor reads from the environment."""

from pydantic import Field

from shared.mixer.settings import MixerSettings


class DistributorSettings(MixerSettings):
    """How often it looks for work that nothing announced."""

    # How often fundings that were taken for absent are looked for.
    reclaim_s: float = Field(default=30.0, gt=0)
    # The journal is read after an event, and this often without one.
    journal_read_s: float = Field(default=1.0, gt=0)
