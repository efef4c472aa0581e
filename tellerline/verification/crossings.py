"""What crosses the border of a partition in one batch: credits sent, cleared, folded, returned, set aside (§4.4)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.ids import AssetCode, Partition, clearing_account, system_account, transit_account
from shared.transit_rows import Credit, TransitRowError, decode_credits, return_id
from tellerline.verification.findings import Violated
from tellerline.verification.rows import EntryRow, TransitRow, text_of, whole

# (operation, account, asset) → minor units
Moves = dict[tuple[str, str, str], int]


class FoldedRow(NamedTuple):
    """A settlement with the transit row that it settles; `credits` None when there is no such row."""

    source: int
    source_batch: int
    credits: str | None


class Posting(NamedTuple):
    """One movement of an operation, in minor units."""

    source: str
    destination: str
    amount: int
    asset: str


@dataclass(slots=True)
class Crossings:
    """Collects what must cross and what did. `key` names the batch in findings."""

    partition: Partition
    key: str
    sent: dict[int, Moves] = field(default_factory=dict[int, Moves])
    returned: dict[str, Posting] = field(default_factory=dict[str, Posting])  # operation → its posting
    transit: dict[str, int] = field(default_factory=dict[str, int])  # transit account → entries less what rows say
    set_aside: dict[str, int] = field(default_factory=dict[str, int])  # suspense account → delta without an operation

    def enter(self, entry: EntryRow, delta: int) -> None:
        """Takes an entry without an operation: the net of transit, or a transit row set aside. Raises Violated."""
        if delta == 0:
            rule = "an entry without an operation moves something"
            raise Violated("entries", f"{entry.account_id}/{entry.seq}", rule, "not 0", delta)
        if entry.account_id.startswith("transit:"):
            self.transit[entry.account_id] = self.transit.get(entry.account_id, 0) + delta
        elif entry.account_id.startswith("suspense:"):
            self.set_aside[entry.account_id] = self.set_aside.get(entry.account_id, 0) + delta
        else:
            rule = "only transit and suspense have entries without an operation"
            raise Violated("entries", f"{entry.account_id}/{entry.seq}", rule, "an operation", "none")

    def send(self, destination: int, operation: str, posting: Posting) -> None:
        """The operation's credit must be in this batch's transit row to `destination`, or cleared with it."""
        sent = self.sent.setdefault(destination, {})
        credit = (operation, posting.destination, posting.asset)
        sent[credit] = sent.get(credit, 0) + posting.amount

    def take(self, posting: Posting) -> None:
        """A credit of another partition that was entered here in the commit of its debit."""
        account = clearing_account(AssetCode(posting.asset), self.partition)
        self.transit[account] = self.transit.get(account, 0) + posting.amount

    def fold(self, rows: Iterable[FoldedRow], found: Moves) -> Moves:
        """What the folded rows must have entered. `found`: what the batch's entries did. Raises Violated."""
        expected: Moves = {}
        for row in rows:
            key = f"{row.source}/{row.source_batch}/{self.partition}"
            if row.credits is None:
                raise Violated("settlements", key, "it settles a transit row", "a row of transit", "none")
            landing = read_credits(row.credits, key)
            for credit in landing:
                account = transit_account(credit.asset, Partition(row.source), "in", self.partition)
                self.transit[account] = self.transit.get(account, 0) + credit.amount
            if not self._was_set_aside(landing, found):
                for credit in landing:
                    self._land(credit, expected, found)
        for account, left in self.set_aside.items():
            if left != 0:
                key = f"{account} in batch {self.key}"
                raise Violated("entries", key, "what is set aside is a whole transit row", 0, left)
        if self.returned:
            raise Violated(
                "operations", min(self.returned), "a return is of a credit that was folded here", "one", "none"
            )
        return expected

    def _was_set_aside(self, landing: Sequence[Credit], found: Moves) -> bool:
        """Whether this row could not be folded and stands on suspense as a whole. Takes it from there if so."""
        if not self.set_aside or any(_place(credit) in found for credit in landing):
            return False
        totals: dict[str, int] = {}
        for credit in landing:
            account = system_account("suspense", credit.asset, self.partition)
            totals[account] = totals.get(account, 0) + credit.amount
        if any(self.set_aside.get(account, 0) < total for account, total in totals.items()):
            return False
        for account, total in totals.items():
            self.set_aside[account] -= total
        return True

    def _land(self, credit: Credit, expected: Moves, found: Moves) -> None:
        """A credit is on its account, or on its way back; a return may be on suspense."""
        back = self._returned(credit) if self.returned else None
        if back is not None:
            posting = Posting(credit.account, credit.source, credit.amount, credit.asset)
            if back != posting:
                raise Violated("operations", credit.operation, "its return is of the whole credit", posting, back)
            return
        place = _place(credit)
        suspense = (credit.operation, system_account("suspense", credit.asset, self.partition), credit.asset)
        if credit.kind == "return" and place not in found and suspense in found:
            place = suspense
        expected[place] = expected.get(place, 0) + credit.amount

    def _returned(self, credit: Credit) -> Posting | None:
        return self.returned.pop(return_id(credit.operation, self.partition), None)

    def check_sent(self, lines: Iterable[str], cleared: Mapping[int, int]) -> int:
        """Every credit that the batch's operations send is in a transit row, or cleared; no other is.

        How many were cleared. `cleared`: destination → its batch of the same commit, as the batch row says. Raises
        Violated.
        """
        for line in lines:
            row = TransitRow(*line.split("\t"))
            key = f"{row.source}/{row.batch}/{row.destination}"
            destination = whole(row.destination, "transit", key, "destination")
            found: Moves = {}
            for credit in read_credits(text_of(row.credits), key):
                place = _place(credit)
                found[place] = found.get(place, 0) + credit.amount
                account = transit_account(credit.asset, Partition(destination), "out", self.partition)
                self.transit[account] = self.transit.get(account, 0) - credit.amount
            sent = self.sent.pop(destination, {})
            _compare(key, {place: sent[place] for place in sent if destination not in cleared or place in found}, found)
            if rest := {place: amount for place, amount in sent.items() if place not in found}:
                self.sent[destination] = rest
        self._check_cleared(cleared)
        return sum(map(len, self.sent.values()))

    def _check_cleared(self, cleared: Mapping[int, int]) -> None:
        for destination, unsent in sorted(self.sent.items()):
            if destination not in cleared:
                rule = f"its credit is on its way to partition {destination}"
                raise Violated("operations", min(unsent)[0], rule, "a credit in transit, or cleared", "none")
            for (_, _, asset), amount in unsent.items():
                account = clearing_account(AssetCode(asset), self.partition)
                self.transit[account] = self.transit.get(account, 0) - amount
        for destination in sorted(cleared.keys() - self.sent.keys()):
            rule = f"what it cleared with partition {destination} are credits of its operations"
            raise Violated("batches", self.key, rule, "a credit", "none")

    def check_nets(self, entries: Sequence[EntryRow]) -> None:
        """The entries on transit accounts are the sums of the credits sent and folded. Raises Violated."""
        for account, left in sorted(self.transit.items()):
            if left != 0:
                seq = next((entry.seq for entry in entries if entry.account_id == account), "none")
                found = sum(int(entry.delta) for entry in entries if entry.account_id == account)
                rule = "the net entry is the sum of the credits in transit"
                raise Violated("entries", f"{account}/{seq}", rule, found - left, found)


def _place(credit: Credit) -> tuple[str, str, str]:
    return credit.operation, credit.account, credit.asset


def _compare(key: str, expected: Moves, found: Moves) -> None:
    for place in sorted(expected.keys() | found.keys()):
        if expected.get(place) != found.get(place):
            operation, account, asset = place
            rule = f"the credit of operation {operation} to {account} in {asset} is what its posting says"
            raise Violated("transit", key, rule, expected.get(place, "none"), found.get(place, "none"))


def read_credits(text: str, key: str) -> list[Credit]:
    """The credits of a transit row. Raises Violated when it is not one."""
    try:
        return decode_credits(text)
    except TransitRowError:
        raise Violated("transit", key, "credits can be read", "JSON of version 1", text[:200]) from None
