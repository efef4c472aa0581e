"""The worker's SQL: loading, the fenced commit, and leases. Three connections: one writes, one reads meanwhile, one leases."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import asyncpg
import structlog

from services.ledger_worker.core.accounts import LEDGER, Account, Hold, Status
from services.ledger_worker.core.line import Known, read_cursors
from services.ledger_worker.ports import (
    CommitUnknown,
    Fenced,
    Head,
    Lease,
    PictureStale,
    RepeatFound,
    RowRefused,
    Sealed,
    StoreFault,
    StoreUnavailable,
    TransitRow,
)
from shared import db
from shared.faults import FaultPoint, fault_point
from shared.ids import AccountId, AssetCode, CommandId, HoldId, Partition, Principal
from shared.journal import HASHED_COLUMNS, copy_fields
from shared.rejections import Rejection

log = structlog.get_logger()

Result = TypeVar("Result")

APPLICATION: Final = "ledger_worker"

ASSETS = "SELECT code, scale FROM ledger.assets"

ACCOUNTS = """
SELECT a.id, a.asset, a.owner, a.partition, a.status, e.seq, e.balance_after, e.held_after, e.limit_after
  FROM ledger.accounts a
  LEFT JOIN LATERAL (
      SELECT seq, balance_after, held_after, limit_after FROM ledger.entries
       WHERE account_id = a.id ORDER BY seq DESC LIMIT 1) e ON true
 WHERE a.id = ANY($1::text[])
"""

HOLDS = """
SELECT h.id::text, h.account_id, h.asset, h.amount, h.destination, h.operation_id::text, x.ended
  FROM ledger.holds h LEFT JOIN ledger.hold_ends x ON x.hold_id = h.id
 WHERE h.id = ANY($1::text[]::uuid[])
"""

KNOWN = "SELECT id::text, encode(fingerprint, 'hex') AS fingerprint, code FROM ledger.operations WHERE id = ANY($1::text[]::uuid[])"

HEADS = """
SELECT DISTINCT ON (partition) partition, batch, cursors FROM ledger.batches
 WHERE partition = $1 ORDER BY partition, batch DESC LIMIT 1
"""

PENDING_TRANSIT = """
SELECT t.source, t.batch, t.destination, t.credits
  FROM unnest($1::smallint[], $2::smallint[], $3::bigint[]) AS w (destination, source, cursor)
  JOIN ledger.transit t ON t.destination = w.destination AND t.source = w.source AND t.batch > w.cursor
 ORDER BY t.destination, t.source, t.batch LIMIT $4
"""

TRANSIT_TOTALS = """
SELECT asset, delta FROM ledger.entries
 WHERE partition = $1 AND batch = $2 AND account_id = 'transit:' || asset || ':' || $3::smallint::text || ':out:' || $1::text
 ORDER BY asset
"""

# See the migration: one round trip for the batches of a group, or for what remains of them after COPY.
APPEND = "SELECT written, recorded_at_us FROM ledger.append($1, $2)"
FENCE = "SELECT ledger.fence($1::smallint[], $2, $3::bigint[])"

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

# A row locked by a batch in flight is skipped, so a steal never interleaves with a commit.
ACQUIRE = """
UPDATE ledger.partitions
   SET owner = $1, epoch = epoch + 1, lease_expires_at = clock_timestamp() + make_interval(secs => $2), backend_pid = $3
 WHERE partition = (
      SELECT partition FROM ledger.partitions WHERE owner IS NULL OR lease_expires_at < clock_timestamp()
       ORDER BY partition FOR UPDATE SKIP LOCKED LIMIT 1)
RETURNING partition, epoch
"""

# Only a worker's own backend, should the pid have passed to another since.
FREE_STUCK = """
SELECT count(pg_terminate_backend(s.pid))
  FROM (SELECT DISTINCT owner, backend_pid FROM ledger.partitions WHERE lease_expires_at < clock_timestamp()) p
  JOIN pg_stat_activity s ON s.pid = p.backend_pid AND s.usename = current_user AND s.application_name = $1 || ' ' || p.owner
 WHERE s.pid <> pg_backend_pid()
"""

RELEASE = """
UPDATE ledger.partitions p SET owner = NULL, backend_pid = NULL, lease_expires_at = '-infinity'
  FROM unnest($2::smallint[], $3::bigint[]) AS n (partition, epoch)
 WHERE p.partition = n.partition AND p.owner = $1 AND p.epoch = n.epoch
"""

# An owner's id is never used twice, so a higher epoch of the same owner was raised by this statement: its answer was lost.
RAISE_EPOCHS = """
UPDATE ledger.partitions p SET epoch = p.epoch + 1, backend_pid = $4
  FROM unnest($2::smallint[], $3::bigint[]) AS n (partition, epoch)
 WHERE p.partition = n.partition AND p.owner = $1 AND p.epoch >= n.epoch RETURNING p.partition, p.epoch
"""

# Up to here a group goes in one statement, above it by COPY. Measured, ms a group, one statement / COPY: 1 command 0.9 / 2.2,
# 16 commands 2.3 / 3.3, 64 commands 5.2 / 3.5, 256 commands 9.6 / 8.0.
COPY_OPERATIONS_MIN: Final = 48
COPIED_TABLES: Final = ("operations", "entries")
REPEAT_CONSTRAINT: Final = "operations_pkey"
FENCED_STATE: Final = "TL002"
STALE_STATE: Final = "TL003"
ROW_CLASSES: Final = ("22", "23", "TL")


class PostgresStore:
    """ports.Store on PostgreSQL. Lost connections are opened again by the next call that needs them."""

    def __init__(self, dsn: str, owner: str, *, copy_operations_min: int = COPY_OPERATIONS_MIN) -> None:
        self._dsn = dsn
        self._copy_operations_min = copy_operations_min
        self._application = f"{APPLICATION} {owner}"
        self._connections: dict[str, db.Connection] = {}
        self._locks = {name: asyncio.Lock() for name in ("write", "read", "lease")}

    async def close(self) -> None:
        """Closes the connections."""
        for connection in self._connections.values():
            connection.terminate()
        self._connections.clear()

    async def assets(self) -> dict[AssetCode, int]:
        """See ports.Store."""
        rows = await self._run("read", lambda connection: connection.fetch(ASSETS))
        return {AssetCode(row["code"]): int(row["scale"]) for row in rows}

    async def accounts(self, wanted: Sequence[AccountId]) -> list[tuple[Account, Partition]]:
        """See ports.Store."""
        rows = await self._run("read", lambda connection: connection.fetch(ACCOUNTS, list(wanted)))
        return [
            (Account(
                AccountId(row["id"]), AssetCode(row["asset"]), Principal(row["owner"]), Status(row["status"]),
                int(row["seq"] or 0), int(row["balance_after"] or 0), int(row["held_after"] or 0),
                int(row["limit_after"] or 0), is_system=row["owner"] == LEDGER,
            ), Partition(row["partition"]))
            for row in rows
        ]

    async def holds(self, wanted: Sequence[HoldId]) -> list[Hold]:
        """See ports.Store."""
        rows = await self._run("read", lambda connection: connection.fetch(HOLDS, list(wanted)))
        return [
            Hold(
                HoldId(row["id"]), AccountId(row["account_id"]), AssetCode(row["asset"]), int(row["amount"]),
                None if row["destination"] is None else AccountId(row["destination"]), CommandId(row["operation_id"]),
                row["ended"],
            )
            for row in rows
        ]

    async def known(self, wanted: Sequence[str]) -> dict[str, Known]:
        """See ports.Store."""
        rows = await self._run("read", lambda connection: connection.fetch(KNOWN, list(wanted)))
        return {
            str(row["id"]): Known(str(row["fingerprint"]), None if row["code"] is None else Rejection(row["code"])) for row in rows
        }

    async def heads(self, partitions: Sequence[Partition]) -> dict[Partition, Head]:
        """See ports.Store."""
        found = {partition: Head(0, {}) for partition in partitions}
        for partition in partitions:
            row = await self._run("read", lambda connection, p=partition: connection.fetchrow(HEADS, p))
            if row is not None:
                found[partition] = Head(int(row["batch"]), read_cursors(row["cursors"]))
        return found

    async def pending_transit(self, cursors: Sequence[tuple[Partition, Partition, int]], rows_max: int) -> list[TransitRow]:
        """See ports.Store."""
        destinations, sources, batches = [[place[part] for place in cursors] for part in range(3)]
        rows = await self._run(
            "read", lambda connection: connection.fetch(PENDING_TRANSIT, destinations, sources, batches, rows_max),
        )
        return [
            TransitRow(Partition(row["source"]), int(row["batch"]), Partition(row["destination"]), str(row["credits"]))
            for row in rows
        ]

    async def transit_totals(self, row: TransitRow) -> list[tuple[AssetCode, int]]:
        """See ports.Store."""
        rows = await self._run(
            "read", lambda connection: connection.fetch(TRANSIT_TOTALS, row.source, row.batch, row.destination),
        )
        return [(AssetCode(found["asset"]), int(found["delta"])) for found in rows]

    async def commit(self, owner: str, batches: Sequence[Sealed]) -> dict[Partition, int]:
        """See ports.Store. Any loss of the connection is taken for a loss at COMMIT, which is the safe side."""
        async with self._locks["write"]:
            connection = await self._open("write")
            try:
                recorded = await self._write(connection, owner, batches)
            except db.CONNECTION_FAULTS as error:
                self._drop("write")
                raise CommitUnknown(repr(error)) from error
            except asyncpg.PostgresError as error:
                await self._roll_back(connection)
                raise fault_of(error) from error
            except BaseException:
                self._drop("write")
                raise
        fault_point(FaultPoint.WORKER_AFTER_COMMIT)
        return recorded

    async def _write(self, connection: db.Connection, owner: str, batches: Sequence[Sealed]) -> dict[Partition, int]:
        fault_point(FaultPoint.WORKER_BEFORE_FENCE)
        if sum(len(batch.lines["operations"]) for batch in batches) < self._copy_operations_min:
            return await _append(connection, owner, _document(batches, skipped=()))
        await connection.execute("BEGIN")
        await connection.execute(FENCE, [batch.partition for batch in batches], owner, [batch.epoch for batch in batches])
        for table in COPIED_TABLES:
            await _copy(connection, table, _lines(batches, table))
            fault_point(FaultPoint.WORKER_IN_BATCH)
        recorded = await _append(connection, owner, _document(batches, skipped=COPIED_TABLES))
        fault_point(FaultPoint.WORKER_BEFORE_COMMIT)
        await connection.execute("COMMIT")
        return recorded

    async def _roll_back(self, connection: db.Connection) -> None:
        if not connection.is_in_transaction():
            return
        try:
            await connection.execute("ROLLBACK")
        except (*db.CONNECTION_FAULTS, asyncpg.PostgresError):
            self._drop("write")

    async def heartbeat(self, owner: str, alive_s: float) -> list[str]:
        """See ports.Store."""
        await self._run("lease", lambda connection: connection.execute(HEARTBEAT, owner))
        await self._run("lease", lambda connection: connection.execute(FORGET_DEAD))
        rows = await self._run("lease", lambda connection: connection.fetch(ALIVE, alive_s))
        return [str(row["id"]) for row in rows]

    async def renew(self, owner: str, leases: Iterable[Lease], ttl_s: float) -> set[Partition]:
        """See ports.Store."""
        places = _places(leases)
        rows = await self._run("lease", lambda connection: connection.fetch(RENEW, owner, *places, ttl_s))
        return {Partition(row["partition"]) for row in rows}

    async def acquire(self, owner: str, ttl_s: float) -> Lease | None:
        """See ports.Store."""
        async with self._locks["write"]:
            pid = (await self._open("write")).get_server_pid()
        row = await self._run("lease", lambda connection: connection.fetchrow(ACQUIRE, owner, ttl_s, pid))
        return None if row is None else Lease(Partition(row["partition"]), int(row["epoch"]))

    async def free_stuck(self) -> int:
        """See ports.Store."""
        return int(await self._run("lease", lambda connection: connection.fetchval(FREE_STUCK, APPLICATION)))

    async def release(self, owner: str, leases: Iterable[Lease]) -> None:
        """See ports.Store."""
        places = _places(leases)
        await self._run("lease", lambda connection: connection.execute(RELEASE, owner, *places))

    async def raise_epochs(self, owner: str, leases: Iterable[Lease]) -> list[Lease]:
        """See ports.Store."""
        places = _places(leases)
        async with self._locks["write"]:
            pid = (await self._open("write")).get_server_pid()
        rows = await self._run("lease", lambda connection: connection.fetch(RAISE_EPOCHS, owner, *places, pid))
        return [Lease(Partition(row["partition"]), int(row["epoch"])) for row in rows]

    async def leave(self, owner: str) -> None:
        """See ports.Store."""
        await self._run("lease", lambda connection: connection.execute(LEAVE, owner))

    async def _open(self, name: str) -> db.Connection:
        connection = self._connections.get(name)
        if connection is None or connection.is_closed():
            try:
                connection = await db.connect(self._dsn, application=self._application)
            except (*db.CONNECTION_FAULTS, asyncpg.PostgresError) as error:
                raise StoreUnavailable(repr(error)) from error
            self._connections[name] = connection
        return connection

    def _drop(self, name: str) -> None:
        connection = self._connections.pop(name, None)
        if connection is not None:
            connection.terminate()

    async def _run(self, name: str, ask: Callable[[Any], Awaitable[Result]]) -> Result:
        async with self._locks[name]:
            connection = await self._open(name)
            try:
                return await ask(connection)
            except db.CONNECTION_FAULTS as error:
                self._drop(name)
                raise StoreUnavailable(repr(error)) from error
            except asyncpg.PostgresError as error:
                raise StoreUnavailable(repr(error)) from error
            except asyncio.CancelledError:
                self._drop(name)
                raise


def fault_of(error: asyncpg.PostgresError) -> StoreFault:
    """Whose error it is (DESIGN §4.2): a repeat, a stale picture, a command's, or nobody's."""
    if isinstance(error, asyncpg.UniqueViolationError):
        repeat = error.constraint_name == REPEAT_CONSTRAINT
        return RepeatFound(str(error)) if repeat else PictureStale(f"{error.constraint_name}: {error}")
    state = error.sqlstate or ""
    if state == FENCED_STATE:
        return Fenced(str(error))
    if state == STALE_STATE:
        return PictureStale(str(error))
    if state[:2] in ROW_CLASSES:
        return RowRefused(f"{state}: {error}")
    return StoreUnavailable(f"{state}: {error}")


async def _append(connection: db.Connection, owner: str, document: str) -> dict[Partition, int]:
    rows = await connection.fetch(APPEND, owner, document)
    return {Partition(row["written"]): int(row["recorded_at_us"]) for row in rows}


def _document(batches: Sequence[Sealed], *, skipped: Sequence[str]) -> str:
    tables = {table: [copy_fields(line) for line in _lines(batches, table)] for table in HASHED_COLUMNS if table not in skipped}
    tables["assets"] = [copy_fields(line) for batch in batches for line in batch.assets]
    tables["account_changes"] = [[account, *change] for batch in batches for account, change in batch.account_changes.items()]
    tables["batches"] = [
        [
            str(batch.partition), str(batch.batch), str(batch.epoch), str(len(batch.lines["operations"])),
            str(len(batch.lines["entries"])), batch.cursors, batch.content_hash.hex(),
        ]
        for batch in batches
    ]
    return json.dumps({table: rows for table, rows in tables.items() if rows})


def _lines(batches: Sequence[Sealed], table: str) -> list[str]:
    lines = [line for batch in batches for line in batch.lines[table]]
    if table == "operations":
        lines.sort()  # by id: every worker takes the keys in the same order, so two repeats never deadlock
    return lines


async def _copy(connection: db.Connection, table: str, lines: Sequence[str]) -> None:
    if lines:
        # An async iterator, since asyncpg reads a file-like object in a thread.
        await connection.copy_to_table(
            table, schema_name="ledger", columns=list(HASHED_COLUMNS[table]), source=_once("".join(lines).encode()), format="text",
        )


async def _once(copied: bytes) -> AsyncIterator[bytes]:
    yield copied


def _places(leases: Iterable[Lease]) -> tuple[list[int], list[int]]:
    listed = list(leases)
    return [lease.partition for lease in listed], [lease.epoch for lease in listed]

