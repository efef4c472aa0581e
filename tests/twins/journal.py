"""The ledger's tables as plain Python: what the migration's keys, checks, trigger and functions promise."""

import hashlib
import re
from collections.abc import Callable, Container, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.ledger_worker.core.batch import SealedBatch
from services.ledger_worker.ports import Fenced, Lease, RepeatFound, RowRefused, StaleRead
from shared.domain.ids import UUID_TEXT, Partition
from shared.domain.money import AMOUNT_MINOR_MAX, BALANCE_MINOR_MAX
from shared.journal.rows import GENESIS_HASH, HASHED_COLUMNS, copy_fields, copy_text
from tellerline.verification.chain import BatchRow

BORN_WITH: Mapping[str, int] = {"USD": 2, "EUR": 2, "BTC": 8, "JOB": 18}
SYSTEM = re.compile(r"^(world|house|fees|fx|suspense|transit):")
Row = dict[str, str | None]


@dataclass(slots=True)
class Ownership:
    """A row of `partitions`."""

    owner: str | None = None
    epoch: int = 0
    expires_us: int = -(2**62)
    waiting_for: str | None = None
    waiting_s: float = 0.0  # how old the oldest undecided message was at the last renewal


@dataclass(slots=True, eq=False)
class Backend:
    """The server's side of one writing connection."""

    owner: str
    is_ended: bool = False


@dataclass(slots=True)
class Journal:
    """All tables. `append` is one transaction: it happens whole or raises.

    `unwritable`: ids of operations whose row is refused, whatever it says.
    """

    partitions: int
    now_us: Callable[[], int]
    assets: dict[str, tuple[int, str, str | None]] = field(default_factory=dict[str, tuple[int, str, str | None]])
    accounts: dict[str, Row] = field(default_factory=dict[str, Row])
    operations: dict[str, Row] = field(default_factory=dict[str, Row])
    entries: dict[str, list[Row]] = field(default_factory=dict[str, list[Row]])
    batches: dict[int, list[BatchRow]] = field(default_factory=dict[int, list[BatchRow]])
    lines: dict[tuple[int, int], Mapping[str, Sequence[str]]] = field(
        default_factory=dict[tuple[int, int], Mapping[str, Sequence[str]]]
    )
    # Of each batch its rows of ledger.listed, as `verify` reads them.
    listed: dict[tuple[int, int], list[str]] = field(default_factory=dict[tuple[int, int], list[str]])
    transit: dict[tuple[int, int, int], str] = field(default_factory=dict[tuple[int, int, int], str])
    settlements: dict[tuple[int, int, int], int] = field(default_factory=dict[tuple[int, int, int], int])
    holds: dict[str, Row] = field(default_factory=dict[str, Row])
    hold_ends: dict[str, Row] = field(default_factory=dict[str, Row])
    owners: list[Ownership] = field(default_factory=list[Ownership])
    workers: dict[str, int] = field(default_factory=dict[str, int])
    connected: set[str] = field(default_factory=set[str])  # workers
    locks: dict[int, Backend] = field(default_factory=dict[int, Backend])
    unwritable: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        self.assets.update({code: (scale, code, None) for code, scale in BORN_WITH.items()})
        self.batches.update({partition: [] for partition in range(self.partitions)})
        self.owners = [Ownership() for _ in range(self.partitions)]

    @contextmanager
    def locked(self, partitions: Sequence[int], backend: Backend) -> Generator[None]:
        """Holds the rows of `partitions` until the transaction ends."""
        self.locks.update(dict.fromkeys(partitions, backend))
        try:
            yield
        finally:
            for partition in partitions:
                del self.locks[partition]

    def fence(self, owner: str, leases: Sequence[Lease]) -> None:
        """ledger.fence. Raises Fenced."""
        for lease in leases:
            row = self.owners[lease.partition]
            if row.owner != owner or row.epoch != lease.epoch:
                raise Fenced(f"partition {lease.partition} is {row.owner}'s under epoch {row.epoch}")

    def append(self, owner: str, batches: Sequence[SealedBatch]) -> dict[Partition, int]:
        """ledger.append: checks everything, then writes everything. Raises the StoreFault of the first bad row."""
        self.fence(owner, [Lease(batch.partition, batch.epoch) for batch in batches])
        rows = {
            table: [_row(table, line) for batch in batches for line in batch.lines[table]] for table in HASHED_COLUMNS
        }
        assets = [copy_fields(line) for batch in batches for line in batch.assets]
        self._check_keys(rows, assets)
        _refuse_unless(self.unwritable.isdisjoint(str(row["id"]) for row in rows["operations"]), "injected")
        _check_values(rows)
        for batch in batches:
            if batch.batch != len(self.batches[batch.partition]) + 1:
                raise StaleRead(f"batch {batch.batch} does not follow the last of partition {batch.partition}")
        self._write(rows, assets)
        for batch in batches:
            for account, (status, metadata) in batch.account_changes.items():
                self.accounts[account]["status"] = status
                self.accounts[account]["metadata"] = metadata or self.accounts[account]["metadata"]
        return {batch.partition: self._seal(batch) for batch in batches}

    def _check_keys(self, rows: Mapping[str, Sequence[Row]], assets: Sequence[Sequence[str | None]]) -> None:
        _unique("assets_pkey", [str(asset[0]) for asset in assets], self.assets)
        _unique("accounts_pkey", [str(row["id"]) for row in rows["accounts"]], self.accounts)
        ids = [str(row["id"]) for row in rows["operations"]]
        if len(set(ids)) < len(ids) or not self.operations.keys().isdisjoint(ids):
            raise RepeatFound("operations_pkey")
        for account in {str(row["account_id"]) for row in rows["entries"]}:
            known = {row["seq"] for row in self.entries.get(account, [])}
            _unique("entries_pkey", [str(row["seq"]) for row in rows["entries"] if row["account_id"] == account], known)
        _unique("holds_pkey", [str(row["id"]) for row in rows["holds"]], self.holds)
        _unique("hold_ends_pkey", [str(row["hold_id"]) for row in rows["hold_ends"]], self.hold_ends)
        _unique(
            "transit_pkey", [_place(row, "source", "batch", "destination") for row in rows["transit"]], self.transit
        )
        settled = [_place(row, "source", "source_batch", "destination") for row in rows["settlements"]]
        _unique("settlements_pkey", settled, self.settlements)

    def _write(self, rows: Mapping[str, Sequence[Row]], assets: Sequence[Sequence[str | None]]) -> None:
        self.assets.update({str(code): (int(scale or 0), str(name), made) for code, scale, name, made in assets})
        self.accounts.update({str(row["id"]): row for row in rows["accounts"]})
        self.operations.update({str(row["id"]): row for row in rows["operations"]})
        for row in rows["entries"]:
            self.entries.setdefault(str(row["account_id"]), []).append(row)
        for row in rows["transit"]:
            self.transit[_place(row, "source", "batch", "destination")] = str(row["credits"])
        for row in rows["settlements"]:
            self.settlements[_place(row, "source", "source_batch", "destination")] = int(row["batch"] or 0)
        self.holds.update({str(row["id"]): row for row in rows["holds"]})
        self.hold_ends.update({str(row["hold_id"]): row for row in rows["hold_ends"]})

    def _seal(self, batch: SealedBatch) -> int:
        before = self.batches[batch.partition][-1:]
        prev_hash = before[0].hash if before else GENESIS_HASH
        at_us = max(self.now_us(), before[0].recorded_at_us + 1 if before else 0)
        row = BatchRow(
            batch.partition,
            batch.batch,
            batch.epoch,
            len(batch.lines["operations"]),
            len(batch.lines["entries"]),
            at_us,
            batch.cursors,
            prev_hash,
            batch.content_hash,
            b"",
        )
        self.listed[row.partition, row.batch] = [
            "\t".join([*map(copy_text, key), str(at_us), lines, operations])
            for *key, _, _, lines, operations in batch.listed
        ]
        place = [row.partition, row.batch, row.epoch, at_us, row.cursors]
        text = "|".join(map(str, ["tellerline.batch.v1", *place]))
        digest = hashlib.sha256(prev_hash + batch.content_hash + text.encode()).digest()
        self.batches[batch.partition].append(row._replace(hash=digest))
        self.lines[batch.partition, batch.batch] = batch.lines
        return at_us


def _row(table: str, line: str) -> Row:
    if "\0" in line:
        raise RowRefused("22021: a NUL in a text")
    fields = copy_fields(line)
    columns = HASHED_COLUMNS[table] + (("status", "metadata") if table == "accounts" else ())
    if len(fields) != len(columns):
        raise RowRefused(f"22P04: {len(fields)} fields for {table}")
    return dict(zip(columns, fields, strict=True))


def _place(row: Row, *columns: str) -> tuple[int, int, int]:
    source, batch, destination = (int(row[column] or 0) for column in columns)
    return source, batch, destination


def _unique(key: str, fresh: Sequence[object], known: Container[object]) -> None:
    if len(set(fresh)) < len(fresh) or any(each in known for each in fresh):
        raise StaleRead(key)


def _check_values(rows: Mapping[str, Sequence[Row]]) -> None:
    for row in rows["operations"]:
        _refuse_unless(UUID_TEXT.fullmatch(str(row["id"])) is not None, "22P02: not a uuid")
        _refuse_unless(re.fullmatch(r"\\x[0-9a-f]{32}", str(row["fingerprint"])) is not None, "operations_fingerprint")
        _refuse_unless((row["outcome"] == "rejected") == (row["code"] is not None), "operations_code")
    totals: dict[tuple[str | None, ...], int] = {}
    for row in rows["entries"]:
        _check_entry(row)
        key = row["partition"], row["batch"], row["asset"]
        totals[key] = totals.get(key, 0) + int(row["delta"] or 0)
    _refuse_unless(not any(totals.values()), f"TL001: {totals}")
    for row in rows["holds"]:
        _refuse_unless(0 < int(row["amount"] or 0) <= AMOUNT_MINOR_MAX, "amount_bounds")


def _check_entry(row: Row) -> None:
    delta, held_delta, balance, held, limit = (
        int(row[column] or 0) for column in ("delta", "held_delta", "balance_after", "held_after", "limit_after")
    )
    account = str(row["account_id"])
    _refuse_unless(1 <= len(account) <= 64, "accounts_id")
    _refuse_unless(
        all(abs(amount) <= BALANCE_MINOR_MAX for amount in (delta, held_delta, balance, held, limit)), "bounds"
    )
    _refuse_unless(held >= 0 and limit >= 0, "entries_held, entries_limit")
    enough = (delta >= 0 and held_delta <= 0) or balance - held + limit >= 0 or SYSTEM.match(account) is not None
    _refuse_unless(enough, "entries_funds")


def _refuse_unless(holds: bool, rule: str) -> None:
    if not holds:
        raise RowRefused(rule)
