"""ports.Store on PostgreSQL: reads, the fenced commit, and leases."""

from services.ledger_worker.store.commits import COPY_OPERATIONS_MIN, Commits
from services.ledger_worker.store.connections import fault_of
from services.ledger_worker.store.leases import Leases
from services.ledger_worker.store.reads import Reads


class PostgresStore(Reads, Commits, Leases):
    """The whole of ports.Store."""


__all__ = ["COPY_OPERATIONS_MIN", "PostgresStore", "fault_of"]
