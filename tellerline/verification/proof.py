"""The whole proof over one snapshot, check by check, until the first bad row."""

import functools
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from shared.journal.rows import HASHED_COLUMNS
from tellerline.verification.accounts import AccountProof, check_totals
from tellerline.verification.batches import Batch, BatchProof
from tellerline.verification.chain import Chain
from tellerline.verification.findings import SuspenseFinding, Violated, Violation, expect
from tellerline.verification.store.accounts import read_accounts, read_changed_account
from tellerline.verification.store.batches import read_batches, read_carried
from tellerline.verification.store.ledger import (
    count_rows,
    read_assets,
    read_epochs,
    read_foreign_batch,
    read_lost_entry,
    read_orphan,
    read_partitions,
    read_unsettled,
    read_waiting,
)
from tellerline.verification.store.snapshot import Connection
from tellerline.verification.suspense import read_findings
from tellerline.verification.transit import TransitBalances, read_credits, totals

# The assets that a ledger is created with; every other one has an operation.
BORN_WITH: Mapping[str, tuple[int, str]] = {
    "USD": (2, "US dollar"), "EUR": (2, "Euro"), "CNY": (2, "Renminbi"), "CAD": (2, "Canadian dollar"),
    "RUB": (2, "Rouble"), "BTC": (8, "Bitcoin"), "ETC": (18, "Ethereum Classic"), "ETH": (18, "Ether"),
    "MATIC": (18, "Polygon"), "JOB": (18, "Jobcoin"),
}  # fmt: skip


FINDINGS_MAX = 1_000
Counted = dict[str, int]


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
    """The result. `heads`: partition → last batch and its hash, for an operator to keep outside the database."""

    checks: list[Check] = field(default_factory=list[Check])
    heads: dict[int, tuple[int, str]] = field(default_factory=dict[int, tuple[int, str]])
    first_violation: Violation | None = None
    # The first FINDINGS_MAX open ones, and as many that an operator acknowledged; all of them are counted.
    findings: list[SuspenseFinding] = field(default_factory=list[SuspenseFinding])
    seconds: float = 0.0

    @property
    def checked(self) -> dict[str, int]:
        """Everything that was counted."""
        return {name: count for check in self.checks for name, count in check.counted.items()}

    @property
    def open_findings(self) -> int:
        """How many findings no operator has acknowledged yet."""
        return self.checked.get("open", 0)

    def find(self, finding: SuspenseFinding, counted: Counted) -> None:
        """Counts a finding, and keeps it if it is among the first of its kind."""
        kind = "open" if finding.acknowledged_by is None else "acknowledged"
        counted[kind] = counted.get(kind, 0) + 1
        if counted[kind] <= FINDINGS_MAX:
            self.findings.append(finding)


OnCheck = Callable[[Check], None]


async def prove(connection: Connection, on_check: OnCheck) -> Proof:
    """Runs every check; `on_check` gets each as it ends. Raises what is in DATABASE_FAULTS."""
    began = time.monotonic()
    proof = Proof()
    run = _Run(connection, proof)
    steps: tuple[tuple[str, str, Callable[[Counted], Awaitable[None]]], ...] = (
        ("ledger", "partitions and assets are those of its operations", run.check_ledger),
        ("accounts", "numbers without gaps, running balances and holds, funds, limits, status", run.check_accounts),
        (
            "batches",
            "numbers, instants, epochs, cursors; postings, credits and holds are what the entries do; hashes; lists",
            run.check_batches,
        ),
        ("places", "every row stands in a batch", run.check_places),
        (
            "transit",
            "what left one partition and not reached the other is not settled; all balances sum to zero",
            run.check_transit,
        ),
        ("suspense", "what no account could take lies in suspense, and an operator knows of it", run.check_suspense),
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
    """The checks of one proof, in the order of `prove`, and the results that later checks need of earlier ones."""

    def __init__(self, connection: Connection, proof: Proof) -> None:
        self._connection = connection
        self._proof = proof
        self._partitions = 0
        self._assets: Mapping[str, str | None] = {}
        self._transit_balances: Mapping[str, int] = {}
        self._totals: Mapping[str, int] = {}
        self._cursors: dict[int, Mapping[int, int]] = {}
        self._netted = Counter[str]()  # transit account → what netting has added to it, in minor units
        self._epochs: Mapping[int, int] = {}
        self._rows: Counted = {}  # table → rows that the batches have
        self._causes: dict[str, str] = {}  # key of an entry on suspense → why it is there
        self._unreadable: list[SuspenseFinding] = []  # transit rows that wait to be set aside

    async def check_ledger(self, counted: Counted) -> None:
        """The number of partitions, their rows, and the assets."""
        self._partitions = counted["partitions"] = await read_partitions(self._connection)
        self._epochs = await read_epochs(self._connection)
        expected, found = list(range(self._partitions)), sorted(self._epochs)
        expect("partitions", "all", "there is one row for each partition", expected, found)
        if (foreign := await read_foreign_batch(self._connection, self._partitions)) is not None:
            rule = "partition is one of the ledger's"
            raise Violated("batches", foreign, rule, f"0 … {self._partitions - 1}", foreign)
        rows = await read_assets(self._connection)
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
            await read_accounts(self._connection, proof.feed)
            proof.finish()
        finally:
            counted.update(accounts=proof.accounts, entries=proof.entries)
        self._transit_balances, self._totals = proof.transit_balances, proof.totals
        if await count_rows(self._connection, "entries") != proof.entries:
            account, seq = await read_lost_entry(self._connection) or ("?", 0)
            raise Violated("entries", f"{account}/{seq}", "account_id is an account", "a row of accounts", account)
        if (changed := await read_changed_account(self._connection)) is not None:
            account, expected, found = changed
            raise Violated("accounts", account, "metadata is that of its last operation", expected, found)

    async def check_batches(self, counted: Counted) -> None:
        """Every batch of every partition, in order."""
        counted.update(dict.fromkeys(("batches", *HASHED_COLUMNS, "listed"), 0))
        self._rows = counted
        for partition in range(self._partitions):
            chain = Chain(partition, self._partitions)
            await read_batches(self._connection, partition, functools.partial(self._check_batch, chain))
            if chain.last.epoch > self._epochs[partition]:
                rule = "epoch is not below that of the last batch"
                raise Violated("partitions", partition, rule, f">= {chain.last.epoch}", self._epochs[partition])
            self._cursors[partition] = chain.cursors
            self._proof.heads[partition] = (chain.last.batch, chain.last.hash.hex())

    def _check_batch(self, chain: Chain, batch: Batch) -> None:
        self._rows["batches"] += 1
        for table, lines in batch.lines_of.items():
            self._rows[table] += len(lines)
        chain.check_place(batch.row)
        check = BatchProof(batch, self._partitions, self._assets)
        check.check()
        cursors = chain.check_cursors(batch.row, batch.settled_batches())
        chain.advance(batch.row, batch.lines_of, cursors, unreadable=check.unreadable)
        check.check_lists()
        self._rows["listed"] += len(batch.listed)
        self._causes.update(check.set_aside)
        self._netted.update(check.netted)

    async def check_transit(self, counted: Counted) -> None:
        """What is on its way between any two partitions, and what all accounts hold together."""
        check_totals(self._totals)
        transit = TransitBalances(self._cursors, self._netted)
        counted["unsettled"] = 0
        rows = 0
        async for source, batch, destination, text in read_waiting(self._connection, self._cursors):
            rows += 1
            credits = read_credits(text)
            if credits is None:
                carried = await read_carried(self._connection, source, batch, destination)
                key = f"transit {source}/{batch}/{destination}"
                self._unreadable += [
                    SuspenseFinding(key, carried[asset], asset, "it cannot be read") for asset in carried
                ]
            else:
                carried = totals(credits)
                counted["unsettled"] += len(credits)
            transit.wait(source, batch, destination, carried)
        if rows + self._rows["settlements"] != self._rows["transit"]:
            async for source, batch, destination, _ in read_unsettled(self._connection):
                transit.wait(source, batch, destination, {})
        counted["pairs"] = transit.finish(self._transit_balances)

    async def check_suspense(self, counted: Counted) -> None:
        """What lies in suspense by design: findings, each open until an operator has resolved it."""
        for finding in self._unreadable:
            self._proof.find(finding, counted)
        async for finding in read_findings(self._connection, self._causes):
            self._proof.find(finding, counted)

    async def check_places(self, counted: Counted) -> None:
        """No row names a batch that does not exist: the other checks, which read by batch, would not see it."""
        for table in (*HASHED_COLUMNS, "listed"):
            counted["tables"] = counted.get("tables", 0) + 1
            if await count_rows(self._connection, table) != self._rows[table]:
                orphan = await read_orphan(self._connection, table)
                raise Violated(table, orphan or "?", "it stands in a batch", "a row of batches", "none")


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
    rule = "scale and name are what the operation that made it says" if operation else "it was there from the start"
    expect("assets", code, rule, expected, found)
