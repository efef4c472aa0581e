"""What the deposit poller reads from the environment."""

from pydantic import Field

from shared.settings import LedgerSettings


class PollerSettings(LedgerSettings):
    """Where the network is, and how patiently it is asked."""

    jobcoin_url: str = Field(pattern=r"^https?://.+/.+$")
    house_address: str = Field(default="tellerline-house", pattern=r"^[A-Za-z0-9_-]{1,128}$")
    # How often the list is read: while mixes are open, otherwise, and for the second look at a new row.
    poll_ms_open: int = Field(default=500, ge=10)
    poll_ms_idle: int = Field(default=2_000, ge=10)
    poll_ms_confirm: int = Field(default=100, ge=10)
    network_timeout_s: float = Field(default=5.0, gt=0)
    list_bytes_max: int = Field(default=64 * 1024 * 1024, gt=0)
    # Longer than the time-out plus the network's worst delay: only after it does absence from the list prove anything.
    settle_s: float = Field(default=15.0, gt=0)
    rounds_max: int = Field(default=8, ge=1)
    claim_s: float = Field(default=30.0, gt=0)
