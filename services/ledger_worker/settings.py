"""The ledger worker's settings, read from the environment."""

import os
import secrets
import socket

from pydantic import Field

from services.ledger_worker.store import COPY_OPERATIONS_MIN
from shared.runtime.settings import LedgerSettings


def _fresh_owner() -> str:
    # Never the same twice: a restarted worker is a new owner, and gets partitions once the old leases end.
    return f"{socket.gethostname()[:32]}-{os.getpid()}-{secrets.token_hex(4)}"


class WorkerSettings(LedgerSettings):
    """The settings of one worker. Names that end in `_s` are seconds."""

    owner: str = Field(default_factory=_fresh_owner, min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+$")
    lease_ttl_s: float = Field(default=10.0, gt=0)
    lease_renew_s: float = Field(default=2.0, gt=0)
    batch_commands_max: int = Field(default=4_000, ge=1, le=20_000)
    copy_operations_min: int = Field(default=COPY_OPERATIONS_MIN, ge=0)
    cache_accounts_max: int = Field(default=200_000, ge=100)
