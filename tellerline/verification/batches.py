"""Checks one batch: its entries, transit rows, holds and accounts are those that its operations ask for."""

import functools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from shared.domain.ids import PARTITIONED_PREFIXES, AccountId, Partition, partition_of
from shared.journal.rows import NULL
from shared.journal.transit import RETURN_KIND
from tellerline.verification.chain import BatchRow
from tellerline.verification.findings import Violated, expect
from tellerline.verification.lists import BatchLists, ListedAs, ListedEntry
from tellerline.verification.rows import EntryLine, OperationLine, entry_of, is_transit, text_of, whole
from tellerline.verification.transit import BatchTransit, Moves, PostedMove, SettledRow

# Kinds whose entry has no amount: it gives a change of the account a sequence number.
CREATE, MIX, UPDATE, CLOSE = "account.create.v1", "mix.create.v1", "account.update.v1", "account.close.v1"
ASSET: Final = "asset.create.v1"
PLACE: Final = "hold.place.v1"
# What `_postings` finds right, for the one posting that most operations have: reading JSON costs four times as much.
ONE_POSTING: Final = re.compile(
    r'\[\["((?!transit:)[^"\\]*)","((?!transit:)[^"\\]*)","([1-9][0-9]{0,30})","([^"\\]*)"\]\]', re.ASCII
)
END_OF: Final[Mapping[str, str]] = {"hold.capture.v1": "captured", "hold.void.v1": "voided"}


class EndedHold(NamedTuple):
    """A row of `hold_ends` with the hold that it ends; `account_id` None when there is no such hold."""

    hold_id: str
    ended: str
    operation_id: str
    account_id: str | None
    asset: str | None
    amount: str | None
    partition: int | None


@dataclass(slots=True)
class Batch:
    """Everything that one batch wrote. `lines_of` are the hashed lines, by table, without their newline.

    `listed` are its rows of ledger.listed, `owners` those of the accounts in its entries.
    """

    row: BatchRow
    lines_of: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    settled: list[SettledRow] = field(default_factory=list[SettledRow])
    ended: list[EndedHold] = field(default_factory=list[EndedHold])
    listed: list[str] = field(default_factory=list[str])
    owners: Mapping[str, str] = field(default_factory=dict[str, str])

    def lines(self, table: str) -> Sequence[str]:
        """The lines of one table."""
        return self.lines_of.get(table, ())

    def settled_batches(self) -> dict[int, list[int]]:
        """Source → the batches of it whose transit rows were taken in, in the order of the settlements."""
        settled: dict[int, list[int]] = {}
        for row in self.settled:
            settled.setdefault(row.source, []).append(row.source_batch)
        return settled


class BatchProof:
    """Checks one batch: adds up what operations, settlements and holds ask for, and compares the entries.

    `assets`: code → the id of the operation that made it, None for those that every ledger begins with.
    """

    def __init__(self, batch: Batch, partitions: int, assets: Mapping[str, str | None]) -> None:
        self._batch = batch
        self._key = batch.row.key
        self._partition = Partition(batch.row.partition)
        self._partitions = partitions
        self._assets = assets
        self._operations: dict[str, OperationLine] = {}  # those that do more than move money, or nothing
        self._changes: dict[str, EntryLine] = {}  # operation → its entry without amounts
        self._totals = defaultdict[str, int](int)  # asset → sum of the entries
        self._transit = BatchTransit(self._partition, self._key)
        self._lists = BatchLists()
        self.netted: Mapping[str, int] = {}  # transit account → minor units that netting added; known after `check`

    @property
    def set_aside(self) -> Mapping[str, str]:
        """Entries on suspense of whole transit rows: key → why. Known after `check`."""
        return self._transit.set_aside

    @property
    def unreadable(self) -> Sequence[str]:
        """The keys of this batch's transit rows that cannot be read. Known after `check`."""
        return self._transit.unreadable

    def check(self) -> None:
        """Raises Violated at the first row that disagrees."""
        moved, held = self._read_entries()
        expected = self._read_operations()
        self._check_changes()
        self._transit.take_in(self._batch.settled, expected, moved)
        self._compare("delta", expected, moved)
        self._compare("held_delta", self._expect_placed() | self._expect_ended(), held)
        self._transit.check_sent(self._batch.lines("transit"))
        self.netted = self._transit.check_nets(self._batch.lines("entries"))
        self._check_made()
        self._check_counts()

    def check_lists(self) -> None:
        """Raises Violated for the first list that is wrong. After `check`, and once the hash vouches for the rows."""
        row = self._batch.row
        for settled in self._batch.settled:
            self._lists.land(settled.credits or ())
        self._lists.check(self._batch.listed, row.key, row.recorded_at_us, self._batch.owners)

    def _read_entries(self) -> tuple[Moves, Moves]:
        """What the entries add to balances and to held amounts, by operation, account and asset."""
        moved, held = Moves(int), Moves(int)
        listed = self._lists.entries
        for number, line in enumerate(self._batch.lines("entries")):
            account, seq, operation, asset, delta_text, held_text, _ = line.split("\t", 6)
            try:
                delta, held_delta = int(delta_text), int(held_text)
            except ValueError:
                found = f"{delta_text}, {held_text}"
                raise entry_of(line).breaks("delta and held_delta are whole numbers", "digits", found) from None
            self._totals[asset] += delta
            place = operation, account, asset
            if place in held or place in moved or operation in self._changes:
                raise entry_of(line).breaks("an operation has one entry on an account", "one", "another one")
            if held_delta:
                held[place] = held_delta
            if operation == NULL:
                self._transit.enter(entry_of(line), delta)
                continue
            listed.append(ListedEntry(number, account, seq, operation, asset, delta != 0))
            if delta:
                moved[place] = delta
            elif not held_delta:
                self._changes[operation] = entry_of(line)
        return moved, held

    def _check_changes(self) -> None:
        """Entries without amounts belong to changes of accounts."""
        for operation in self._posted(UPDATE, CLOSE):
            if operation.id not in self._changes:
                raise Violated("operations", operation.id, "a change of an account has an entry", "an entry", "none")
        for identity, entry in self._changes.items():
            operation = self._operations.get(identity)
            if (
                operation is None
                or operation.outcome != "posted"
                or operation.kind not in {CREATE, MIX, UPDATE, CLOSE}
                or operation.subject != entry.account_id
                or (entry.status_after == "closed") != (operation.kind == CLOSE)
            ):
                found = "no operation of its batch" if operation is None else f"{operation.kind} {operation.outcome}"
                rule = "an entry that moves nothing is a posted change of its account"
                raise entry.breaks(rule, f"an operation on {entry.account_id}", found)

    def _read_operations(self) -> Moves:
        """What the postings must do to accounts of this partition. Credits to other partitions go to `_transit`."""
        expected = Moves(int)
        own, partitions = self._partition, self._partitions
        ids: set[str] = set()
        for line in self._batch.lines("operations"):
            fields = line.split("\t")
            identity, kind, outcome, postings = fields[0], fields[4], fields[7], fields[10]
            ids.add(identity)
            if outcome != "posted" or fields[8] != NULL or postings == NULL:
                self._operations[identity] = _checked(OperationLine._make(fields))
                self._lists.operations[identity] = ListedAs(kind, fields[12], ())
                continue
            if kind in END_OF:
                self._operations[identity] = OperationLine._make(fields)
            one = ONE_POSTING.fullmatch(postings)
            moves = [one.groups()] if one else _postings(identity, postings)
            self._lists.operations[identity] = ListedAs(kind, fields[12], tuple({move[3]: None for move in moves}))
            for source, target, text, asset in moves:
                amount = int(text)
                if kind == RETURN_KIND:  # the credit never landed: nothing is debited
                    self._transit.returned[identity] = PostedMove(source, target, amount, asset)
                else:
                    expected[identity, source, asset] -= amount
                destination = _partition_of(target, partitions)
                if destination == own:
                    expected[identity, target, asset] += amount
                else:
                    self._transit.send(destination, (identity, target, asset), amount)
        expect("batches", self._key, "no operation stands there twice", len(self._batch.lines("operations")), len(ids))
        return expected

    def _expect_placed(self) -> Moves:
        placed = {operation.id: operation.subject for operation in self._posted(PLACE)}
        expected = Moves(int)
        for line in self._batch.lines("holds"):
            hold, account, asset, amount, _, operation, *_ = line.split("\t")
            if placed.pop(operation, None) != hold:
                rule = "operation_id is the operation of its batch that placed it"
                raise Violated("holds", hold, rule, f"{PLACE} posted", operation)
            expected[operation, account, asset] = whole(amount, "holds", hold, "amount")
        if placed:
            raise Violated("operations", min(placed), "a hold that was placed has a row", "a row of holds", "none")
        return expected

    def _expect_ended(self) -> Moves:
        ending = {operation.id: operation for operation in self._posted(*END_OF)}
        expected = Moves(int)
        for end in self._batch.ended:
            if end.account_id is None or end.asset is None or end.amount is None or end.partition != self._partition:
                rule = "hold_id is a hold of this partition"
                raise Violated("hold_ends", end.hold_id, rule, "a row of holds", end.partition)
            operation = ending.pop(end.operation_id, None)
            if operation is None or operation.subject != end.hold_id or END_OF[operation.kind] != end.ended:
                found = "none" if operation is None else f"{operation.kind} of {operation.subject}"
                rule = "operation_id is the operation of its batch that ended it"
                raise Violated("hold_ends", end.hold_id, rule, f"one that leaves it {end.ended}", found)
            expected[end.operation_id, end.account_id, end.asset] = -whole(end.amount, "holds", end.hold_id, "amount")
        if ending:
            raise Violated("operations", min(ending), "a hold that was ended has a row", "a row of hold_ends", "none")
        return expected

    def _compare(self, column: str, expected: Moves, found: Moves) -> None:
        if expected == found:
            return
        for place in sorted(expected.keys() | found.keys()):
            says, does = expected.get(place, 0), found.get(place, 0)
            if says != does:
                operation, account, asset = place
                entries = map(entry_of, self._batch.lines("entries"))
                seqs = [row.seq for row in entries if (row.operation_id, row.account_id) == (operation, account)]
                key = f"{account}/{','.join(seqs) or 'none'}"
                rule = f"{column} in {asset} is what operation {operation} of batch {self._key} or its credit says"
                raise Violated("entries", key, rule, says, does)

    def _check_made(self) -> None:
        made = {operation.subject for operation in self._posted(CREATE, MIX)}
        for line in self._batch.lines("accounts"):
            account = line.partition("\t")[0]
            if account not in made and not account.startswith(PARTITIONED_PREFIXES):
                raise Violated("accounts", account, "an operation of its batch made it", f"{CREATE} posted", "none")
            made.discard(account)
        if made:
            raise Violated("accounts", min(made), "an account that was made has a row", "a row of accounts", "none")
        for operation in self._posted(ASSET):
            if self._assets.get(operation.subject) != operation.id:
                found = self._assets.get(operation.subject, "none")
                raise Violated("operations", operation.id, "an asset that was made has a row", operation.subject, found)

    def _check_counts(self) -> None:
        row = self._batch.row
        for asset, total in sorted(self._totals.items()):
            expect("batches", row.key, f"its entries in {asset} sum to zero", 0, total)
        for table, number in (("operations", row.operations), ("entries", row.entries)):
            expect("batches", row.key, f"{table} is the number of its rows", len(self._batch.lines(table)), number)

    def _posted(self, *kinds: str) -> Iterator[OperationLine]:
        return (row for row in self._operations.values() if row.kind in kinds and row.outcome == "posted")


def carried_to(destination: int, operations: Iterable[str], partitions: int) -> Counter[str]:
    """Asset → minor units that a batch with these lines of operations sends to another partition. Raises Violated."""
    carried = Counter[str]()
    for operation in (OperationLine(*line.split("\t")) for line in operations):
        if operation.outcome == "posted" and operation.postings != NULL:
            for _, target, amount, asset in _postings(operation.id, operation.postings):
                if _partition_of(target, partitions) == destination:
                    carried[asset] += int(amount)
    return carried


def _checked(operation: OperationLine) -> OperationLine:
    is_posted = operation.outcome == "posted"
    if operation.outcome not in {"posted", "rejected"} or is_posted != (operation.code == NULL):
        found = f"{operation.outcome}, {operation.code}"
        rule = "outcome goes with code"
        raise Violated("operations", operation.id, rule, "posted, or rejected and a code", found)
    return operation


@functools.lru_cache(maxsize=100_000)
def _partition_of(account: str, partitions: int) -> int:
    return partition_of(AccountId(account), partitions)


def _postings(operation: str, field: str) -> Sequence[tuple[str, str, str, str]]:
    """Source, destination, amount and asset of each posting in a field of COPY text. Raises Violated."""
    try:
        read: Iterable[tuple[str, str, str, str]] = json.loads(text_of(field))
        postings = [(source, destination, amount, asset) for source, destination, amount, asset in read]
        is_positive = all(int(amount) > 0 for _, _, amount, _ in postings)
    except (ValueError, TypeError):
        rule = "postings are [source, destination, amount, asset]"
        raise Violated("operations", operation, rule, "a JSON array", field) from None
    if not is_positive or any(is_transit(source) or is_transit(target) for source, target, _, _ in postings):
        rule = "a posting moves a positive amount between accounts other than those of transit"
        raise Violated("operations", operation, rule, "> 0", field)
    return postings
