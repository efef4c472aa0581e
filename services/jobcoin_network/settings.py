"""What the simulated network needs to run."""

from pathlib import Path

from shared.runtime.settings import ServiceSettings


class JobcoinNetworkSettings(ServiceSettings):
    """Where the network keeps its file. It serves at `host` and `port`; port 0 is a free one, which the log names."""

    jobcoin_dir: Path
