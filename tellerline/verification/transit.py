"""Checks credits between partitions: what each batch sent and took in, and what the ledger has not settled yet."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.domain.ids import AssetCode, Partition, system_account, transit_account
from shared.journal.transit import TransitCredit, TransitRowError, decode_credits, return_id
from tellerline.verification.findings import Violated, expect
from tellerline.verification.rows import EntryLine, is_transit, text_of

# (operation, account, asset) → minor units
Moves = defaultdict[tuple[str, str, str], int]


class SettledRow(NamedTuple):
    """A settlement with the transit row that it settles; `credits` None when there is no such row."""

    source: int
    source_batch: int
    credits: str | None


class PostedMove(NamedTuple):
    """One movement of an operation, in minor units."""

    source: str
    destination: str
    amount: int
    asset: str


@dataclass(slots=True)
class BatchTransit:
    """Adds up what one batch must send and take in, and compares it with its rows. `key` names it in violations."""

    partition: Partition
    key: str
    returned: dict[str, PostedMove] = field(default_factory=dict[str, PostedMove])  # operation → its posting
    _sent: dict[int, Moves] = field(default_factory=dict[int, Moves])
    _nets: Counter[str] = field(default_factory=Counter[str])  # transit account → entries minus credits in rows
    _set_aside: Counter[str] = field(default_factory=Counter[str])  # suspense account → not yet assigned to a row

    def enter(self, entry: EntryLine, delta: int) -> None:
        """Notes an entry without an operation: the net of a transit account, or a row set aside. Raises Violated."""
        if delta == 0:
            raise entry.breaks("an entry without an operation moves something", "not 0", delta)
        if is_transit(entry.account_id):
            self._nets[entry.account_id] += delta
        elif entry.account_id.startswith("suspense:"):
            self._set_aside[entry.account_id] += delta
        else:
            raise entry.breaks("only transit and suspense have entries without an operation", "an operation", "none")

    def send(self, destination: int, operation: str, posting: PostedMove) -> None:
        """Notes that this batch's transit row to `destination` must hold the credit of this posting."""
        sent = self._sent.setdefault(destination, Moves(int))
        sent[operation, posting.destination, posting.asset] += posting.amount

    def take_in(self, rows: Iterable[SettledRow], expected: Moves, found: Moves) -> None:
        """Adds to `expected` what the settled rows must have entered. `found`: what entries did. Raises Violated."""
        for row in rows:
            key = f"{row.source}/{row.source_batch}/{self.partition}"
            if row.credits is None:
                raise Violated("settlements", key, "it settles a transit row", "a row of transit", "none")
            credits = read_credits(row.credits, key)
            for credit in credits:
                self._nets[transit_account(credit.asset, Partition(row.source), "in", self.partition)] += credit.amount
            if not self._was_set_aside(credits, found):
                for credit in credits:
                    self._land(credit, expected, found)
        for account, left in self._set_aside.items():
            key = f"{account} in batch {self.key}"
            expect("entries", key, "what is set aside is a whole transit row", 0, left)
        if self.returned:
            rule = "a return is of a credit that was taken in here"
            raise Violated("operations", min(self.returned), rule, "one", "none")

    def check_sent(self, lines: Iterable[str]) -> None:
        """Each credit that the batch's operations send is in a transit row, and no other is. Raises Violated."""
        for line in lines:
            source, batch, destination, text = line.split("\t")
            key = f"{source}/{batch}/{destination}"
            peer = Partition(int(destination))
            found = Moves(int)
            for credit in read_credits(text_of(text), key):
                found[_place(credit)] += credit.amount
                self._nets[transit_account(credit.asset, peer, "out", self.partition)] -= credit.amount
            _compare(key, self._sent.pop(peer, Moves(int)), found)
        for destination, unsent in sorted(self._sent.items()):
            rule = f"its credit is on its way to partition {destination}"
            raise Violated("operations", min(unsent)[0], rule, "a row of transit", "none")

    def check_nets(self, entries: Sequence[EntryLine]) -> None:
        """The entries on transit accounts are the sums of the credits sent and taken in. Raises Violated."""
        for account, left in sorted(self._nets.items()):
            if left != 0:
                seq = next((entry.seq for entry in entries if entry.account_id == account), "none")
                found = sum(int(entry.delta) for entry in entries if entry.account_id == account)
                rule = "the net entry is the sum of the credits in transit"
                raise Violated("entries", f"{account}/{seq}", rule, found - left, found)

    def _was_set_aside(self, credits: Sequence[TransitCredit], found: Moves) -> bool:
        """Whether the worker could not take in this row and put all of it on suspense. If so, deducts it there."""
        if not self._set_aside or any(_place(credit) in found for credit in credits):
            return False
        totals = Counter[str]()
        for credit in credits:
            totals[system_account("suspense", credit.asset, self.partition)] += credit.amount
        if any(self._set_aside[account] < total for account, total in totals.items()):
            return False
        self._set_aside.subtract(totals)
        return True

    def _land(self, credit: TransitCredit, expected: Moves, found: Moves) -> None:
        """Expects the credit on its account, unless it was returned. A return may be on suspense instead."""
        if (back := self.returned.pop(return_id(credit.operation, self.partition), None)) is not None:
            posting = PostedMove(credit.account, credit.source, credit.amount, credit.asset)
            if back != posting:
                raise Violated("operations", credit.operation, "its return is of the whole credit", posting, back)
            return
        place = _place(credit)
        suspense = (credit.operation, system_account("suspense", credit.asset, self.partition), credit.asset)
        if credit.kind == "return" and place not in found and suspense in found:
            place = suspense
        expected[place] += credit.amount


@dataclass(slots=True)
class TransitBalances:
    """Over the whole ledger: a pair of transit accounts holds what has left one partition and not reached the other.

    `cursors`: destination → source → the last batch taken in.
    """

    cursors: Mapping[int, Mapping[int, int]]
    waiting_credits: int = 0
    _waiting: Counter[str] = field(default_factory=Counter[str])  # account at the source → minor units

    def wait(self, source: int, batch: int, destination: int, text: str) -> None:
        """Adds a transit row without a settlement. Raises Violated when the destination's cursor is past it."""
        key = f"{source}/{batch}/{destination}"
        cursor = self.cursors.get(destination, {}).get(source, 0)
        if batch <= cursor:
            rule = "a row behind the cursor is settled"
            raise Violated("transit", key, rule, "a row of settlements", f"cursor {cursor}")
        for credit in read_credits(text, key):
            self.waiting_credits += 1
            out = transit_account(credit.asset, Partition(destination), "out", Partition(source))
            self._waiting[out] += credit.amount

    def finish(self, balances: Mapping[str, int]) -> int:
        """Compares with the balances of all transit accounts. Returns the number of pairs. Raises Violated."""
        held = Counter[str]()
        for account, balance in balances.items():
            held[account if ":out:" in account else _other_end(account)] += balance
        pairs = self._waiting.keys() | held.keys()
        for out in sorted(pairs):
            rule = f"with {_other_end(out)} it holds what is not settled"
            expect("accounts", out, rule, self._waiting[out], held[out])
        return len(pairs)


def read_credits(text: str, key: str) -> list[TransitCredit]:
    """The credits of a transit row. Raises Violated when it is not one."""
    try:
        return decode_credits(text)
    except TransitRowError:
        raise Violated("transit", key, "credits can be read", "JSON of version 1", text[:200]) from None


def _place(credit: TransitCredit) -> tuple[str, str, str]:
    return credit.operation, credit.account, credit.asset


def _compare(key: str, expected: Moves, found: Moves) -> None:
    for place in sorted(expected.keys() | found.keys()):
        if expected.get(place) != found.get(place):
            operation, account, asset = place
            rule = f"the credit of operation {operation} to {account} in {asset} is what its posting says"
            raise Violated("transit", key, rule, expected.get(place, "none"), found.get(place, "none"))


def _other_end(account: str) -> str:
    """The transit account of the same pair in the other partition."""
    _, asset, peer, side, partition = account.split(":")
    other = "in" if side == "out" else "out"
    return transit_account(AssetCode(asset), Partition(int(partition)), other, Partition(int(peer)))
