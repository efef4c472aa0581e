"""Leases, which expire by the database's clock, and the list of live workers."""

from collections.abc import Iterable

from services.ledger_worker.ports import Lease
from services.ledger_worker.store.connections import APPLICATION, Connections
from shared.domain.ids import Partition

HEARTBEAT = """
INSERT INTO ledger.workers (id, seen_at) VALUES ($1, clock_timestamp())
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at
"""

FORGET_DEAD = "DELETE FROM ledger.workers WHERE seen_at < clock_timestamp() - interval '1 hour'"

ALIVE = "SELECT id FROM ledger.workers WHERE seen_at > clock_timestamp() - make_interval(secs => $1) ORDER BY id"

LEAVE = "DELETE FROM ledger.workers WHERE id = $1"

RENEW = """
UPDATE ledger.partitions p SET lease_expires_at = clock_timestamp() + make_interval(secs => $4)
  FROM unnest($2::smallint[], $3::bigint[]) AS n (partition, epoch)
 WHERE p.partition = n.partition AND p.owner = $1 AND p.epoch = n.epoch RETURNING p.partition
"""

# Skips a row that the fence of a running commit has locked, so that a lease never changes hands during a commit.
ACQUIRE = """
UPDATE ledger.partitions
   SET owner = $1, epoch = epoch + 1, lease_expires_at = clock_timestamp() + make_interval(secs => $2), backend_pid = $3
 WHERE partition = (
      SELECT partition FROM ledger.partitions WHERE owner IS NULL OR lease_expires_at < clock_timestamp()
       ORDER BY partition FOR UPDATE SKIP LOCKED LIMIT 1)
RETURNING partition, epoch
"""

# Checks role and application name, since the pid may belong to another process by now. Only a backend in a transaction
# can hold the row lock; any other is harmless: ACQUIRE can take its lease, and the fence refuses its next commit.
FREE_STUCK = """
SELECT count(pg_terminate_backend(s.pid))
  FROM (SELECT DISTINCT owner, backend_pid FROM ledger.partitions WHERE lease_expires_at < clock_timestamp()) p
  JOIN pg_stat_activity s ON s.pid = p.backend_pid AND s.usename = current_user
   AND s.application_name = $1 || ' ' || p.owner
 WHERE s.pid <> pg_backend_pid() AND s.xact_start IS NOT NULL
"""

RELEASE = """
UPDATE ledger.partitions p SET owner = NULL, backend_pid = NULL, lease_expires_at = '-infinity'
  FROM unnest($2::smallint[], $3::bigint[]) AS n (partition, epoch)
 WHERE p.partition = n.partition AND p.owner = $1 AND p.epoch = n.epoch
"""

# `>=`, for a retry: owner ids are never reused, so a higher epoch under the same owner was raised by an earlier run of
# this statement whose answer was lost.
RAISE_EPOCHS = """
UPDATE ledger.partitions p SET epoch = p.epoch + 1, backend_pid = $4
  FROM unnest($2::smallint[], $3::bigint[]) AS n (partition, epoch)
 WHERE p.partition = n.partition AND p.owner = $1 AND p.epoch >= n.epoch RETURNING p.partition, p.epoch
"""


class Leases(Connections):
    """The leasing part of ports.Store."""

    async def heartbeat(self, alive_s: float) -> list[str]:
        """See ports.Store."""
        await self._run("lease", lambda connection: connection.execute(HEARTBEAT, self._owner))
        await self._run("lease", lambda connection: connection.execute(FORGET_DEAD))
        rows = await self._run("lease", lambda connection: connection.fetch(ALIVE, alive_s))
        return [str(row["id"]) for row in rows]

    async def renew(self, leases: Iterable[Lease], ttl_s: float) -> set[Partition]:
        """See ports.Store."""
        places = _places(leases)
        rows = await self._run("lease", lambda connection: connection.fetch(RENEW, self._owner, *places, ttl_s))
        return {Partition(row["partition"]) for row in rows}

    async def acquire(self, ttl_s: float) -> Lease | None:
        """See ports.Store."""
        async with self._locks["write"]:
            pid = (await self._open("write")).get_server_pid()
        row = await self._run("lease", lambda connection: connection.fetchrow(ACQUIRE, self._owner, ttl_s, pid))
        return None if row is None else Lease(Partition(row["partition"]), int(row["epoch"]))

    async def free_stuck(self) -> int:
        """See ports.Store."""
        return int(await self._run("lease", lambda connection: connection.fetchval(FREE_STUCK, APPLICATION)))

    async def release(self, leases: Iterable[Lease]) -> None:
        """See ports.Store."""
        places = _places(leases)
        await self._run("lease", lambda connection: connection.execute(RELEASE, self._owner, *places))

    async def raise_epochs(self, leases: Iterable[Lease]) -> list[Lease]:
        """See ports.Store."""
        places = _places(leases)
        async with self._locks["write"]:
            pid = (await self._open("write")).get_server_pid()
        rows = await self._run("lease", lambda connection: connection.fetch(RAISE_EPOCHS, self._owner, *places, pid))
        return [Lease(Partition(row["partition"]), int(row["epoch"])) for row in rows]

    async def leave(self) -> None:
        """See ports.Store."""
        await self._run("lease", lambda connection: connection.execute(LEAVE, self._owner))


def _places(leases: Iterable[Lease]) -> tuple[list[int], list[int]]:
    listed = list(leases)
    return [lease.partition for lease in listed], [lease.epoch for lease in listed]
