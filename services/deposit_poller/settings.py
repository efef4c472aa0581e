"""What the deposit poller reads from the environment."""

from pydantic import Field

from shared.mixer.settings import MixerSettings


class PollerSettings(MixerSettings):
    """How often the list is read: while mixes are open, otherwise, and for the second reading of a new row."""

    poll_ms_open: int = Field(default=500, ge=10)
    poll_ms_idle: int = Field(default=2_000, ge=10)
    poll_ms_confirm: int = Field(default=100, ge=10)
    # The list holds everybody's transactions.
    answer_bytes_max: int = Field(default=64 * 1024 * 1024, gt=0)
