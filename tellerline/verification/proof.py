"""The whole proof over one snapshot, check by check, until the first bad row."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from shared.journal.rows import HASHED_COLUMNS
from tellerline.verification import store
from tellerline.verification.accounts import AccountProof, check_totals
from tellerline.verification.batches import Batch, BatchProof
from tellerline.verification.chain import BatchRow, Chain
from tellerline.verification.findings import Violated, Violation
from tellerline.verification.transit import TransitBalances

# The assets that a ledger is created with; every other one has an operation.
BORN_WITH: Mapping[str, tuple[int, str]] = {
    "USD": (2, "US dollar"), "EUR": (2, "Euro"), "CNY": (2, "Renminbi"), "CAD": (2, "Canadian dollar"),
    "RUB": (2, "Rouble"), "BTC": (8, "Bitcoin"), "ETC": (18, "Ethereum Classic"), "ETH": (18, "Ether"),
    "MATIC": (18, "Polygon"), "JOB": (18, "Jobcoin"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    """One part of the proof: what it counted, and how long it took."""

    name: str
    proves: str
    counted: Mapping[str, int]
    seconds: float
    ok: bool


@dataclass(slots=True)
class Proof:
    """What was found out. `heads`: partition → last batch and its hash, to be kept where the database cannot reach."""

    checks: list[Check] = field(default_factory=list[Check])
    heads: dict[int, tuple[int, str]] = field(default_factory=dict[int, tuple[int, str]])
    first_violation: Violation | None = None
    seconds: float = 0.0

    @property
    def checked(self) -> dict[str, int]:
        """Everything that was counted."""
        return {name: count for check in self.checks for name, count in check.counted.items()}


OnCheck = Callable[[Check], None]
Counted = dict[str, int]


async def prove(connection: store.Connection, on_check: OnCheck) -> Proof:
    """Runs every check; `on_check` gets each as it ends. Raises what is in store.DATABASE_FAULTS."""
    began = time.monotonic()
    proof = Proof()
    run = _Run(connection, proof)
    steps: tuple[tuple[str, str, Callable[[Counted], Awaitable[None]]], ...] = (
        ("ledger", "partitions and assets are those of its operations", run.check_ledger),
        (
            "accounts",
            "numbers without gaps, running balances and holds, funds, limits, status",
            run.check_accounts,
        ),
        (
            "batches",
            "numbers, instants, epochs, cursors; postings, credits and holds are what the entries do; both hashes",
            run.check_batches,
        ),
        ("places", "every row stands in a batch", run.check_places),
        (
            "transit",
            "what left one partition and not reached the other is not settled; all balances sum to zero",
            run.check_transit,
        ),
    )
    for name, proves, step in steps:
        started = time.monotonic()
        counted: Counted = {}
        try:
            await step(counted)
        except Violated as violated:
            proof.first_violation = violated.violation
        check = Check(name, proves, counted, time.monotonic() - started, proof.first_violation is None)
        proof.checks.append(check)
        on_check(check)
        if not check.ok:
            break
    proof.seconds = time.monotonic() - began
    return proof


class _Run:
    """The steps of one proof, and what later steps take from earlier ones."""

    def __init__(self, connection: store.Connection, proof: Proof) -> None:
        self._connection = connection
        self._proof = proof
        self._partitions = 0
        self._assets: Mapping[str, str | None] = {}
        self._transit_balances: Mapping[str, int] = {}
        self._totals: Mapping[str, int] = {}
        self._cursors: dict[int, Mapping[int, int]] = {}
        self._epochs: Mapping[int, int] = {}

    async def check_ledger(self, counted: Counted) -> None:
        """P, the partitions' rows, and the assets."""
        self._partitions = counted["partitions"] = await store.read_partitions(self._connection)
        self._epochs = await store.read_epochs(self._connection)
        if set(self._epochs) != set(range(self._partitions)):
            rule = "there is one row for each partition"
            raise Violated("partitions", "all", rule, list(range(self._partitions)), sorted(self._epochs))
        if (foreign := await store.read_foreign_batch(self._connection, self._partitions)) is not None:
            raise Violated(
                "batches", foreign, "partition is one of the ledger's", f"0 … {self._partitions - 1}", foreign
            )
        rows = await store.read_assets(self._connection)
        counted["assets"] = len(rows)
        for row in rows:
            _check_asset(*row)
        self._assets = {str(row["code"]): row["operation_id"] for row in rows}
        if missing := BORN_WITH.keys() - self._assets.keys():
            raise Violated("assets", min(missing), "it was there from the start", "a row of assets", "none")

    async def check_accounts(self, counted: Counted) -> None:
        """Every account from its first entry to its last."""
        proof = AccountProof(self._partitions, frozenset(self._assets))
        try:
            await store.read_accounts(self._connection, proof.feed)
            proof.finish()
        finally:
            counted.update(accounts=proof.accounts, entries=proof.entries)
        self._transit_balances, self._totals = proof.transit_balances, proof.totals
        changed = await store.read_changed_account(self._connection)
        if changed is not None:
            account, expected, found = changed
            raise Violated("accounts", account, "metadata is that of its last operation", expected, found)

    async def check_batches(self, counted: Counted) -> None:
        """Every batch of every partition, in order."""
        for table in ("batches", *(table for table in HASHED_COLUMNS if table not in {"accounts", "entries"})):
            counted[table] = 0
        batches = _Batches(self._connection, counted, await store.read_batch_entries_max(self._connection))
        for partition in range(self._partitions):
            chain = Chain(partition, self._partitions)
            async for batch in batches.read(partition):
                chain.check_place(batch.row)
                BatchProof(batch, self._partitions, self._assets).check()
                chain.advance(batch.row, batch.lines_of, chain.check_cursors(batch.row, batch.settled_batches()))
            if chain.epoch > self._epochs[partition]:
                rule = "epoch is not below that of the last batch"
                raise Violated("partitions", partition, rule, f">= {chain.epoch}", self._epochs[partition])
            self._cursors[partition] = chain.cursors
            self._proof.heads[partition] = (chain.batch, chain.hash.hex())

    async def check_transit(self, counted: Counted) -> None:
        """What is on its way between any two partitions, and what all accounts hold together."""
        check_totals(self._totals)
        transit = TransitBalances(self._cursors)
        async for row in store.read_waiting(self._connection):
            transit.wait(row)
        counted["pairs"] = transit.finish(self._transit_balances)
        counted["unsettled"] = transit.waiting_credits

    async def check_places(self, counted: Counted) -> None:
        """Rows that no batch wrote have not been looked at by the others."""
        for table in HASHED_COLUMNS:
            orphan = await store.read_orphan(self._connection, table)
            counted["tables"] = counted.get("tables", 0) + 1
            if orphan is not None:
                raise Violated(table, orphan, "it stands in a batch", "a row of batches", "none")


class _Batches:
    """Reads batches with all their rows, a window at a time."""

    def __init__(self, connection: store.Connection, counted: Counted, batch_entries_max: int) -> None:
        self._connection = connection
        self._counted = counted
        self._merged = {table: store.Merged(connection, store.merged_query(table)) for table in store.MERGED}
        self._entries = store.Merged(
            connection,
            store.READ_ENTRIES,
            max(1, min(store.CURSOR_ROWS, store.WINDOW_ROWS_MAX // max(1, batch_entries_max))),
        )

    async def read(self, partition: int) -> AsyncIterator[Batch]:
        """The batches of a partition, in order."""
        after = 0
        while window := await store.read_window(self._connection, partition, after):
            after = window[-1].batch
            for batch in await self._window(window):
                await self._merge(batch)
                self._counted["batches"] += 1
                for table, lines in batch.lines_of.items():
                    if table in self._counted:
                        self._counted[table] += len(lines)
                yield batch

    async def _window(self, window: list[BatchRow]) -> list[Batch]:
        """The batches of the window with those of their rows that COPY brings."""
        batches = {row.batch: Batch(row) for row in window}
        for table in store.COPIED:
            place = HASHED_COLUMNS[table].index("batch")
            lines = await store.copy_window(
                self._connection, table, window[0].partition, window[0].batch, window[-1].batch
            )
            for line in lines:
                # A row between two batches of the window belongs to none: the chain's gap is found first.
                batch = batches.get(int(line.split("\t", place + 1)[place]))
                if batch is not None:
                    batch.lines_of.setdefault(table, []).append(line)
        return list(batches.values())

    async def _merge(self, batch: Batch) -> None:
        place = batch.row.partition, batch.row.batch
        for table, merged in self._merged.items():
            if merged.reaches(place) and (rows := await merged.take(place)):
                batch.lines_of[table] = [store.merged_line(table, row) for row in rows]
                if table == "settlements":
                    batch.settled = [store.settled_row(row) for row in rows]
                elif table == "hold_ends":
                    batch.ended = [store.ended_hold(row) for row in rows]
        if self._entries.reaches(place):
            for row in await self._entries.take(place):
                batch.lines_of["entries"] = str(row[2]).split("\n")


def _check_asset(
    code: str, scale: int, name: str, operation: str | None, subject: str | None, metadata: str | None
) -> None:
    found = (scale, name)
    if operation is None:
        expected = BORN_WITH.get(code)
    else:
        try:
            made = json.loads(metadata or "{}")
            expected = (made["scale"], made["name"]) if subject == code else None
        except (ValueError, KeyError, TypeError):
            expected = None
    if found != expected:
        rule = "scale and name are what the operation that made it says" if operation else "it was there from the start"
        raise Violated("assets", code, rule, expected, found)
