"""What both services of the mixer read from the environment."""

from pydantic import Field

from shared.runtime.settings import LedgerSettings


class MixerSettings(LedgerSettings):
    """Where the network is, and how patiently it is asked."""

    jobcoin_url: str = Field(pattern=r"^https?://.+/.+$")
    house_address: str = Field(default="tellerline-house", pattern=r"^[A-Za-z0-9_-]{1,128}$")
    network_timeout_s: float = Field(default=5.0, gt=0)
    # The list is streamed; this bounds every other answer. A stranger may send much dust to an address of ours.
    answer_bytes_max: int = Field(default=8 * 1024 * 1024, gt=0)
    # Time for the whole list, of any length.
    list_timeout_s: float = Field(default=120.0, gt=0)
    # Names the network in what is recorded; the URL under which it is reached may change.
    jobcoin_network: str = Field(default="jobcoin", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    # Longer than the time-out plus the network's worst delay: only then does absence from the list prove anything.
    settle_s: float = Field(default=15.0, gt=0)
    claim_s: float = Field(default=30.0, gt=0)
    # The journal is read after an event, and this often without one.
    journal_read_s: float = Field(default=1.0, gt=0)
