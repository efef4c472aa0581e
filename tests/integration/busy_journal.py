"""A journal with something of everything that lists can be filtered by, and its lists made the naive way."""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import asyncpg

from shared.database.postgres import connect
from shared.domain.ids import AccountId, AssetCode, Partition, Principal, partition_of
from shared.journal.rows import ENTRIES_UNLISTED
from shared.messages import Command
from tests.backends.databases import Database
from tests.builders import Commands, account_in
from tests.journal_writer import JournalWriter

PARTITIONS = 4
ASSETS = ("USD", "EUR", "BTC")
OWNERS = ("alice", "bob")
REFERENCES = (None, None, "common", "rent")
BUSY_ENTRIES = ENTRIES_UNLISTED + 60


@dataclass(slots=True)
class BusyJournal:
    """Two owners with accounts of several assets in two of four partitions. Most entries of `busy` are in its list."""

    writer: JournalWriter
    random: random.Random
    accounts: dict[AccountId, Commands] = field(default_factory=dict[AccountId, Commands])
    busy: AccountId = field(init=False)

    async def fill(self) -> None:
        """Opens the accounts, makes one of them busy, and then lets everything happen."""
        for owner in OWNERS:
            for asset in ASSETS:
                make = Commands(Principal(owner), asset=AssetCode(asset), partitions=PARTITIONS)
                for number in range(4):
                    account = account_in(number % 2, PARTITIONS, prefix=f"{owner}.{asset.lower()}")
                    self.accounts[account] = make
                    await self.writer.write(make.open(account), make.deposit(account, 10_000))
        self.busy = next(iter(self.accounts))
        make = self.accounts[self.busy]
        while self.writer.partitions[_partition(self.busy)].accounts[self.busy].seq < BUSY_ENTRIES:
            await self.writer.write(*[make.deposit(self.busy, 1) for _ in range(200)])
        for _ in range(12):
            await self.add()
        await self.add_return()

    async def add(self) -> None:
        """Some transactions, in one commit for each partition; what crosses lands after it."""
        await self.writer.write(*[self.some() for _ in range(self.random.randint(1, 12))])
        await self.writer.settle()

    def some(self) -> Command:
        """One command, with or without a reference."""
        source = self.random.choice(list(self.accounts))
        make = self.accounts[source]
        others = [each for each, of in self.accounts.items() if of.asset == make.asset and each != source]
        reference = self.random.choice(REFERENCES)
        kinds: Sequence[Command] = (
            make.transfer(source, self.random.choice(others), 1),
            make.transfer(source, self.random.choice(others), 2),
            make.deposit(source, 3),
            make.withdrawal(source, 1),
            make.hold(source, 1),
        )
        return self.random.choice(kinds).model_copy(update={"reference": reference})

    async def add_return(self) -> None:
        """A hold that is captured in another partition, and a credit that meets a closed account."""
        source = next(each for each in self.accounts if each.startswith("alice.eur"))
        make = self.accounts[source]
        target = next(
            each for each, of in self.accounts.items() if of.asset == "EUR" and _partition(each) != _partition(source)
        )
        placed = make.hold(source, 5)
        await self.writer.write(placed)
        await self.writer.write(make.capture(placed, target))
        await self.writer.settle()
        for owner in OWNERS:  # one's own account, and another's
            opens = Commands(Principal(owner), asset=AssetCode("EUR"), partitions=PARTITIONS)
            closing = account_in(_partition(target), PARTITIONS, prefix=f"{owner}.closing")
            await self.writer.write(opens.open(closing))
            await self.writer.write(make.transfer(source, closing, 7), opens.close(closing))
            await self.writer.settle()
            await self.writer.settle()


@dataclass(frozen=True, slots=True)
class NaiveRow:
    """An operation in a list, and what can be filtered by. `place`: instant, partition, line of what lists it."""

    id: str
    place: tuple[datetime, int, int]
    kind: str
    reference: str | None
    assets: frozenset[str]
    seq: int


READ_OPERATIONS = """
SELECT o.id::text AS id, o.partition, o.batch, o.line, o.kind, o.reference, o.postings, b.recorded_at
  FROM ledger.operations o JOIN ledger.batches b USING (partition, batch) WHERE o.outcome = 'posted'
"""
READ_ENTRIES = """
SELECT e.account_id, e.seq, e.operation_id::text AS operation, e.delta, e.partition, e.line, b.recorded_at, a.owner
  FROM ledger.entries e JOIN ledger.batches b USING (partition, batch) JOIN ledger.accounts a ON a.id = e.account_id
 WHERE e.operation_id IS NOT NULL
"""
READ_OWNERS = "SELECT id, owner FROM ledger.accounts"


@dataclass(slots=True)
class NaiveLists:
    """Every list, read from the journal's own tables whole and put in order here: the newest first."""

    operations: Mapping[str, asyncpg.Record]
    entries: Sequence[asyncpg.Record]
    owners: Mapping[str, str]

    @classmethod
    async def read(cls, database: Database) -> "NaiveLists":
        connection = await connect(database.owner, application="tests")
        try:
            operations = {str(row["id"]): row for row in await connection.fetch(READ_OPERATIONS)}
            owners = {str(row["id"]): str(row["owner"]) for row in await connection.fetch(READ_OWNERS)}
            return cls(operations, await connection.fetch(READ_ENTRIES), owners)
        finally:
            await connection.close()

    def everything(self) -> list[NaiveRow]:
        """What an admin sees."""
        moved = [row for row in self.operations.values() if row["postings"]]
        return _newest_first(self._row(row["id"], (row["recorded_at"], row["partition"], row["line"])) for row in moved)

    def of_owner(self, owner: str) -> list[NaiveRow]:
        """Each once: by the entry of the debited account, if that is the owner's, else by the credited one's."""
        return _newest_first(
            self._entry(row)
            for row in self.entries
            if row["owner"] == owner
            and row["delta"]
            and (row["delta"] < 0 or self._kind(row) == "return.v1" or self._source_owner(row) != owner)
        )

    def of_account(self, account: str, *, moved: bool) -> list[NaiveRow]:
        """By its entries; `moved`: only those that changed the balance."""
        return _newest_first(
            self._entry(row) for row in self.entries if row["account_id"] == account and (row["delta"] or not moved)
        )

    def _kind(self, entry: asyncpg.Record) -> str:
        return str(self.operations[entry["operation"]]["kind"])

    def _source_owner(self, entry: asyncpg.Record) -> str:
        return self.owners[json.loads(self.operations[entry["operation"]]["postings"])[0][0]]

    def _entry(self, row: asyncpg.Record) -> NaiveRow:
        return self._row(row["operation"], (row["recorded_at"], row["partition"], row["line"]), row["seq"])

    def _row(self, identity: str, place: tuple[datetime, int, int], seq: int = 0) -> NaiveRow:
        row = self.operations[identity]
        assets = frozenset(posting[3] for posting in json.loads(row["postings"] or "[]"))
        return NaiveRow(identity, place, row["kind"], row["reference"], assets, seq)


def _partition(account: AccountId) -> Partition:
    return partition_of(account, PARTITIONS)


def _newest_first(rows: Iterable[NaiveRow]) -> list[NaiveRow]:
    return sorted(rows, key=lambda row: row.place, reverse=True)
