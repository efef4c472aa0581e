"""What both services of the mixer read from the environment."""

from pydantic import Field

from shared.runtime.settings import LedgerSettings


class MixerSettings(LedgerSettings):
    """Where the network is, and how patiently it is asked."""

    jobcoin_url: str = Field(pattern=r"^https?://.+/.+$")
    house_address: str = Field(default="tellerline-house", pattern=r"^[A-Za-z0-9_-]{1,128}$")
    network_timeout_s: float = Field(default=5.0, gt=0)
    # An address of ours has few transactions.
    answer_bytes_max: int = Field(default=1024 * 1024, gt=0)
    # Longer than the time-out plus the network's worst delay: only then does absence from the list prove anything.
    settle_s: float = Field(default=15.0, gt=0)
    claim_s: float = Field(default=30.0, gt=0)
