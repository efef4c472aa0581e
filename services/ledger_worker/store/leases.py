"""Leases, which expire by the database's clock, and the list of live workers."""

from collections.abc import Iterable, Mapping, Sequence

from services.ledger_worker.ports import ForeignLease, Lease, Waiting
from services.ledger_worker.store.connections import PRESENCE_KEY, Connections
from shared.domain.ids import Partition

HEARTBEAT = """
INSERT INTO ledger.workers (id, seen_at) VALUES ($1, clock_timestamp())
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at
"""

FORGET_DEAD = "DELETE FROM ledger.workers WHERE seen_at < clock_timestamp() - interval '1 hour'"

# If the exclusive lock can be taken, no connection of the worker is left; its own locks never conflict with each other.
# A heartbeat from the future was written before the clock was set back; a live worker soon writes another one.
ALIVE = """
SELECT id FROM ledger.workers
 WHERE seen_at > clock_timestamp() - make_interval(secs => $1)
   AND seen_at < clock_timestamp() + make_interval(secs => $1)
   AND (id = $2 OR NOT pg_try_advisory_xact_lock($3, hashtext(id)))
 ORDER BY id
"""

LEAVE = "DELETE FROM ledger.workers WHERE id = $1"

RENEW = """
UPDATE ledger.partitions p
   SET lease_expires_at = clock_timestamp() + make_interval(secs => $4),
       waiting_for = CASE WHEN $5::text[] IS NULL THEN p.waiting_for ELSE n.waiting_for END,
       waiting_since = CASE WHEN $5::text[] IS NULL THEN p.waiting_since
                            WHEN n.oldest_s > 0 THEN clock_timestamp() - make_interval(secs => n.oldest_s) END
  FROM unnest($2::smallint[], $3::bigint[], $5::text[], $6::float8[]) AS n (partition, epoch, waiting_for, oldest_s)
 WHERE p.partition = n.partition AND p.owner = $1 AND p.epoch = n.epoch RETURNING p.partition
"""

FOREIGN_LEASES = """
SELECT partition, epoch, lease_expires_at::text AS renewal,
       pg_try_advisory_xact_lock($2, hashtext(owner)) AS is_absent
  FROM ledger.partitions WHERE owner <> $1 ORDER BY partition
"""

# Skips a row that the fence of a running commit has locked, so that a lease never changes hands during a commit.
ACQUIRE = """
UPDATE ledger.partitions
   SET owner = $1, epoch = epoch + 1, lease_expires_at = clock_timestamp() + make_interval(secs => $2),
       waiting_for = NULL, waiting_since = NULL
 WHERE partition = (
      SELECT partition FROM ledger.partitions
       WHERE owner IS NULL OR lease_expires_at < clock_timestamp()
          OR (partition, epoch) IN (SELECT * FROM unnest($3::smallint[], $4::bigint[]))
          OR (owner = $1 AND partition <> ALL($5::smallint[]))
       ORDER BY partition FOR UPDATE SKIP LOCKED LIMIT 1)
RETURNING partition, epoch
"""

# The backends of a worker are those that hold its advisory lock; one may be left of this worker's own past. Only one in
# a transaction can hold the row lock. Any other is harmless: ACQUIRE takes its lease, the fence rejects its commits.
FREE_STUCK = """
SELECT count(pg_terminate_backend(stuck.pid)) FROM (
    SELECT DISTINCT s.pid
      FROM ledger.partitions p
      JOIN pg_locks l ON l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = $1::bigint::oid
       AND l.objid = (hashtext(p.owner)::bigint & 4294967295)::oid
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      JOIN pg_stat_activity s ON s.pid = l.pid
     WHERE s.pid <> pg_backend_pid() AND s.xact_start IS NOT NULL
       AND (p.lease_expires_at < clock_timestamp()
            OR (p.partition, p.epoch) IN (SELECT * FROM unnest($2::smallint[], $3::bigint[])))) AS stuck
"""

# `>=`, since the epoch may be raised while the partition is given back.
RELEASE = """
UPDATE ledger.partitions p
   SET owner = NULL, lease_expires_at = '-infinity', waiting_for = NULL, waiting_since = NULL
  FROM unnest($2::smallint[], $3::bigint[]) AS n (partition, epoch)
 WHERE p.partition = n.partition AND p.owner = $1 AND p.epoch >= n.epoch
"""

# `>=`, for a retry: owner ids are never reused, so a higher epoch under the same owner was raised by an earlier run of
# this statement whose answer was lost.
RAISE_EPOCHS = """
UPDATE ledger.partitions p SET epoch = p.epoch + 1
  FROM unnest($2::smallint[], $3::bigint[]) AS n (partition, epoch)
 WHERE p.partition = n.partition AND p.owner = $1 AND p.epoch >= n.epoch RETURNING p.partition, p.epoch
"""


class Leases(Connections):
    """The leasing part of ports.Store."""

    async def heartbeat(self, alive_s: float) -> list[str]:
        """See ports.Store."""
        await self._run("lease", lambda connection: connection.execute(HEARTBEAT, self._owner))
        await self._run("lease", lambda connection: connection.execute(FORGET_DEAD))
        rows = await self._run("lease", lambda connection: connection.fetch(ALIVE, alive_s, self._owner, PRESENCE_KEY))
        return [str(row["id"]) for row in rows]

    async def renew(
        self, leases: Iterable[Lease], ttl_s: float, waiting: Mapping[Partition, Waiting] | None = None
    ) -> set[Partition]:
        """See ports.Store."""
        columns = _columns(leases)
        waits = [(waiting or {}).get(Partition(partition), Waiting()) for partition in columns[0]]
        reasons = None if waiting is None else [each.reason for each in waits]
        ages_s = [each.oldest_s for each in waits]
        rows = await self._run(
            "lease", lambda connection: connection.fetch(RENEW, self._owner, *columns, ttl_s, reasons, ages_s)
        )
        return {Partition(row["partition"]) for row in rows}

    async def foreign_leases(self) -> list[ForeignLease]:
        """See ports.Store."""
        rows = await self._run("lease", lambda connection: connection.fetch(FOREIGN_LEASES, self._owner, PRESENCE_KEY))
        return [
            ForeignLease(Lease(Partition(row["partition"]), int(row["epoch"])), str(row["renewal"]), row["is_absent"])
            for row in rows
        ]

    async def acquire(
        self, ttl_s: float, ended: Sequence[Lease] = (), held: Sequence[Partition] | None = None
    ) -> Lease | None:
        """See ports.Store."""
        arguments = (self._owner, ttl_s, *_columns(ended), held)
        row = await self._run("lease", lambda connection: connection.fetchrow(ACQUIRE, *arguments))
        return None if row is None else Lease(Partition(row["partition"]), int(row["epoch"]))

    async def free_stuck(self, ended: Sequence[Lease] = ()) -> int:
        """See ports.Store."""
        columns = _columns(ended)
        return int(await self._run("lease", lambda connection: connection.fetchval(FREE_STUCK, PRESENCE_KEY, *columns)))

    async def release(self, leases: Iterable[Lease]) -> None:
        """See ports.Store."""
        columns = _columns(leases)
        await self._run("lease", lambda connection: connection.execute(RELEASE, self._owner, *columns))

    async def raise_epochs(self, leases: Iterable[Lease]) -> list[Lease]:
        """See ports.Store."""
        columns = _columns(leases)
        rows = await self._run("lease", lambda connection: connection.fetch(RAISE_EPOCHS, self._owner, *columns))
        return [Lease(Partition(row["partition"]), int(row["epoch"])) for row in rows]

    async def leave(self) -> None:
        """See ports.Store."""
        await self._run("lease", lambda connection: connection.execute(LEAVE, self._owner))


def _columns(leases: Iterable[Lease]) -> tuple[list[int], list[int]]:
    """Partitions and epochs, as a statement's `unnest` takes them."""
    listed = list(leases)
    return [lease.partition for lease in listed], [lease.epoch for lease in listed]
