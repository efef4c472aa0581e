"""What the simulated network needs to run."""

from pathlib import Path

from pydantic import Field

from shared.runtime.settings import ServiceSettings


class JobcoinNetworkSettings(ServiceSettings):
    """Where the network keeps its file. It serves at `host` and `port`; port 0 is a free one, which the log names.

    With a `control_port`, faults can be ordered there. It has no access control, so it listens on loopback unless
    `control_host` says otherwise.
    """

    jobcoin_dir: Path
    control_host: str = "127.0.0.1"
    control_port: int | None = Field(default=None, ge=0, le=65_535)
