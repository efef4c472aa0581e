"""The worker's queries: ends of the journal, assets, accounts, holds, known outcomes and pending transit rows."""

from collections.abc import Sequence
from sys import intern

from services.ledger_worker.core.accounts import LEDGER, Account, Hold, Status
from services.ledger_worker.core.outcomes import KnownOutcome
from services.ledger_worker.core.state import read_cursors
from services.ledger_worker.ports import JournalHead, PendingTransit, TransitRow
from services.ledger_worker.store.connections import Connections
from shared.domain.ids import AccountId, AssetCode, CommandId, HoldId, Partition, Principal
from shared.domain.rejections import Rejection

ASSETS = "SELECT code, scale FROM ledger.assets"

ACCOUNTS = """
SELECT a.id, a.asset, a.owner, a.status, e.seq, e.balance_after, e.held_after, e.limit_after
  FROM ledger.accounts a
  LEFT JOIN LATERAL (
      SELECT seq, balance_after, held_after, limit_after FROM ledger.entries
       WHERE account_id = a.id ORDER BY seq DESC LIMIT 1) e ON true
 WHERE a.id = ANY($1::text[])
"""

METADATA = "SELECT id, metadata FROM ledger.accounts WHERE id = ANY($1::text[])"

HOLDS = """
SELECT h.id::text, h.account_id, h.asset, h.amount, h.destination, h.operation_id::text, x.ended
  FROM ledger.holds h LEFT JOIN ledger.hold_ends x ON x.hold_id = h.id
 WHERE h.id = ANY($1::text[]::uuid[])
"""

KNOWN = """
SELECT id::text, encode(fingerprint, 'hex') AS fingerprint, code FROM ledger.operations
 WHERE id = ANY($1::text[]::uuid[])
"""

HEADS = """
SELECT batch, cursors FROM ledger.batches WHERE partition = $1 ORDER BY batch DESC LIMIT 1
"""

# Each pair's rows are found by key, with a limit of its own: a join would be planned as a walk over all rows, of which
# most were taken in long ago. The pairs share the size by turns, so that none waits for another's backlog. The length
# of `credits` is known without reading a long one.
PENDING_TRANSIT = """
SELECT source, batch, destination, credits, found FROM (
    SELECT t.*, sum(t.size) OVER earlier AS size_before, count(*) OVER () AS found
      FROM unnest($1::smallint[], $2::smallint[], $3::bigint[]) AS w (destination, source, cursor)
     CROSS JOIN LATERAL (
           SELECT source, batch, destination, credits, octet_length(credits) AS size,
                  row_number() OVER (ORDER BY batch) AS place
             FROM ledger.transit
            WHERE destination = w.destination AND source = w.source AND batch > w.cursor
            ORDER BY batch LIMIT $4) AS t
    WINDOW earlier AS (ORDER BY t.place, t.destination, t.source ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ) AS waiting
 WHERE coalesce(size_before, 0) < $5
 ORDER BY destination, source, batch
"""

# An entry below zero nets the account.
TRANSIT_TOTALS = """
SELECT asset, delta FROM ledger.entries
 WHERE partition = $1 AND batch = $2
   AND account_id = 'transit:' || asset || ':' || $3::smallint::text || ':out:' || $1::text AND delta > 0
 ORDER BY asset
"""


class Reads(Connections):
    """The reading part of ports.Store."""

    async def assets(self) -> dict[AssetCode, int]:
        """See ports.Store."""
        rows = await self._run("read", lambda connection: connection.fetch(ASSETS))
        return {AssetCode(row["code"]): int(row["scale"]) for row in rows}

    async def accounts(self, wanted: Sequence[AccountId]) -> list[Account]:
        """See ports.Store."""
        rows = await self._run("read", lambda connection: connection.fetch(ACCOUNTS, list(wanted)))
        return [
            Account(
                AccountId(row["id"]),
                AssetCode(intern(row["asset"])),  # one text for all: each decoded row would bring its own
                Principal(row["owner"]),
                Status(row["status"]),
                int(row["seq"] or 0),
                int(row["balance_after"] or 0),
                int(row["held_after"] or 0),
                int(row["limit_after"] or 0),
                is_system=row["owner"] == LEDGER,
            )
            for row in rows
        ]

    async def metadata(self, wanted: Sequence[AccountId]) -> dict[AccountId, str | None]:
        """See ports.Store."""
        rows = await self._run("read", lambda connection: connection.fetch(METADATA, list(wanted)))
        return {AccountId(row["id"]): row["metadata"] for row in rows}

    async def holds(self, wanted: Sequence[HoldId]) -> list[Hold]:
        """See ports.Store."""
        rows = await self._run("read", lambda connection: connection.fetch(HOLDS, list(wanted)))
        return [
            Hold(
                HoldId(row["id"]),
                AccountId(row["account_id"]),
                AssetCode(row["asset"]),
                int(row["amount"]),
                None if row["destination"] is None else AccountId(row["destination"]),
                CommandId(row["operation_id"]),
                row["ended"],
            )
            for row in rows
        ]

    async def known(self, wanted: Sequence[str]) -> dict[str, KnownOutcome]:
        """See ports.Store."""
        rows = await self._run("read", lambda connection: connection.fetch(KNOWN, list(wanted)))
        return {
            str(row["id"]): KnownOutcome(
                str(row["fingerprint"]), None if row["code"] is None else Rejection(row["code"])
            )
            for row in rows
        }

    async def heads(self, partitions: Sequence[Partition]) -> dict[Partition, JournalHead]:
        """See ports.Store."""
        found = {partition: JournalHead(0, {}) for partition in partitions}
        for partition in partitions:
            row = await self._run("read", lambda connection, p=partition: connection.fetchrow(HEADS, p))
            if row is not None:
                found[partition] = JournalHead(int(row["batch"]), read_cursors(row["cursors"]))
        return found

    async def pending_transit(
        self, cursors: Sequence[tuple[Partition, Partition, int]], rows_max: int, size_max: int
    ) -> PendingTransit:
        """See ports.Store."""
        destinations, sources, batches = [[place[part] for place in cursors] for part in range(3)]
        each_max = -(-rows_max // len(cursors))
        found = await self._run(
            "read",
            lambda connection: connection.fetch(PENDING_TRANSIT, destinations, sources, batches, each_max, size_max),
        )
        rows = [
            TransitRow(Partition(row["source"]), int(row["batch"]), Partition(row["destination"]), str(row["credits"]))
            for row in found
        ]
        # More may wait if a pair has reached its limit, which a pair cannot have if there are fewer rows than that.
        return PendingTransit(rows, is_more=bool(found) and (found[0]["found"] > len(rows) or len(rows) >= each_max))

    async def transit_totals(self, row: TransitRow) -> list[tuple[AssetCode, int]]:
        """See ports.Store."""
        rows = await self._run(
            "read",
            lambda connection: connection.fetch(TRANSIT_TOTALS, row.source, row.batch, row.destination),
        )
        return [(AssetCode(found["asset"]), int(found["delta"])) for found in rows]
