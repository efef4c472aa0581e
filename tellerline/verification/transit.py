"""Credits between partitions: of one batch, what it sent and took in; of the ledger, what has not arrived yet."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.domain.ids import AccountId, AssetCode, Partition, system_account, transit_account
from shared.journal.transit import TransitCredit, TransitRowError, decode_credits, return_id
from tellerline.verification.findings import Violated
from tellerline.verification.rows import EntryLine, TransitLine, is_transit, text_of, whole

# (operation, account, asset) → minor units
Moves = dict[tuple[str, str, str], int]


class SettledRow(NamedTuple):
    """A settlement with the transit row that it settles; `credits` None when there is no such row."""

    source: int
    source_batch: int
    credits: str | None


class WaitingRow(NamedTuple):
    """A transit row without a settlement."""

    source: int
    batch: int
    destination: int
    credits: str


class PostedMove(NamedTuple):
    """One movement of an operation, in minor units."""

    source: str
    destination: str
    amount: int
    asset: str


@dataclass(slots=True)
class BatchTransit:
    """Collects what one batch must send and take in, and what it did. `key` names the batch in findings."""

    partition: Partition
    key: str
    returned: dict[str, PostedMove] = field(default_factory=dict[str, PostedMove])  # operation → its posting
    _sent: dict[int, Moves] = field(default_factory=dict[int, Moves])
    _nets: dict[str, int] = field(default_factory=dict[str, int])  # transit account → entries less what rows say
    _set_aside: dict[str, int] = field(default_factory=dict[str, int])  # suspense account → not yet explained

    def enter(self, entry: EntryLine, delta: int) -> None:
        """Takes an entry without an operation: the net of transit, or a transit row set aside. Raises Violated."""
        if delta == 0:
            rule = "an entry without an operation moves something"
            raise Violated("entries", entry.key, rule, "not 0", delta)
        if is_transit(entry.account_id):
            self._add_net(entry.account_id, delta)
        elif entry.account_id.startswith("suspense:"):
            self._set_aside[entry.account_id] = self._set_aside.get(entry.account_id, 0) + delta
        else:
            rule = "only transit and suspense have entries without an operation"
            raise Violated("entries", entry.key, rule, "an operation", "none")

    def send(self, destination: int, operation: str, posting: PostedMove) -> None:
        """The operation's credit must be in this batch's transit row to `destination`."""
        sent = self._sent.setdefault(destination, {})
        place = (operation, posting.destination, posting.asset)
        sent[place] = sent.get(place, 0) + posting.amount

    def take_in(self, rows: Iterable[SettledRow], found: Moves) -> Moves:
        """What the settled rows must have entered. `found`: what the batch's entries did. Raises Violated."""
        expected: Moves = {}
        for row in rows:
            key = f"{row.source}/{row.source_batch}/{self.partition}"
            if row.credits is None:
                raise Violated("settlements", key, "it settles a transit row", "a row of transit", "none")
            credits = read_credits(row.credits, key)
            for credit in credits:
                self._add_net(transit_account(credit.asset, Partition(row.source), "in", self.partition), credit.amount)
            if not self._was_set_aside(credits, found):
                for credit in credits:
                    self._land(credit, expected, found)
        for account, left in self._set_aside.items():
            if left != 0:
                key = f"{account} in batch {self.key}"
                raise Violated("entries", key, "what is set aside is a whole transit row", 0, left)
        if self.returned:
            rule = "a return is of a credit that was taken in here"
            raise Violated("operations", min(self.returned), rule, "one", "none")
        return expected

    def check_sent(self, lines: Iterable[str]) -> None:
        """Each credit that the batch's operations send is in a transit row, and no other is. Raises Violated."""
        for line in lines:
            row = TransitLine(*line.split("\t"))
            key = f"{row.source}/{row.batch}/{row.destination}"
            destination = whole(row.destination, "transit", key, "destination")
            found: Moves = {}
            for credit in read_credits(text_of(row.credits), key):
                place = _place(credit)
                found[place] = found.get(place, 0) + credit.amount
                self._add_net(
                    transit_account(credit.asset, Partition(destination), "out", self.partition), -credit.amount
                )
            _compare(key, self._sent.pop(destination, {}), found)
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

    def _add_net(self, account: str, delta: int) -> None:
        self._nets[account] = self._nets.get(account, 0) + delta

    def _was_set_aside(self, credits: Sequence[TransitCredit], found: Moves) -> bool:
        """Whether this row could not be read and stands on suspense as a whole. Takes it from there if so."""
        if not self._set_aside or any(_place(credit) in found for credit in credits):
            return False
        totals: dict[AccountId, int] = {}
        for credit in credits:
            account = system_account("suspense", credit.asset, self.partition)
            totals[account] = totals.get(account, 0) + credit.amount
        if any(self._set_aside.get(account, 0) < total for account, total in totals.items()):
            return False
        for account, total in totals.items():
            self._set_aside[account] -= total
        return True

    def _land(self, credit: TransitCredit, expected: Moves, found: Moves) -> None:
        """A credit is on its account, or on its way back; a return may be on suspense."""
        if (back := self.returned.pop(return_id(credit.operation, self.partition), None)) is not None:
            posting = PostedMove(credit.account, credit.source, credit.amount, credit.asset)
            if back != posting:
                raise Violated("operations", credit.operation, "its return is of the whole credit", posting, back)
            return
        place = _place(credit)
        suspense = (credit.operation, system_account("suspense", credit.asset, self.partition), credit.asset)
        if credit.kind == "return" and place not in found and suspense in found:
            place = suspense
        expected[place] = expected.get(place, 0) + credit.amount


@dataclass(slots=True)
class TransitBalances:
    """Over the whole ledger: a pair of transit accounts holds what has left one partition and not reached the other.

    `cursors`: destination → source → the last batch taken in.
    """

    cursors: Mapping[int, Mapping[int, int]]
    waiting_credits: int = 0
    _waiting: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])  # (out, in) → minor units

    def wait(self, row: WaitingRow) -> None:
        """Takes a transit row that nobody has settled. Raises Violated when it lies behind the cursor."""
        key = f"{row.source}/{row.batch}/{row.destination}"
        cursor = self.cursors.get(row.destination, {}).get(row.source, 0)
        if row.batch <= cursor:
            rule = "a row behind the cursor is settled"
            raise Violated("transit", key, rule, "a row of settlements", f"cursor {cursor}")
        for credit in read_credits(row.credits, key):
            self.waiting_credits += 1
            pair = _pair(credit.asset, row.source, row.destination)
            self._waiting[pair] = self._waiting.get(pair, 0) + credit.amount

    def finish(self, balances: Mapping[str, int]) -> int:
        """Compares with the balances of all transit accounts; the number of pairs. Raises Violated."""
        pairs = self._waiting.keys() | {_pair_of(account) for account in balances}
        for out, into in sorted(pairs):
            expected, found = self._waiting.get((out, into), 0), balances.get(out, 0) + balances.get(into, 0)
            if expected != found:
                raise Violated("accounts", out, f"with {into} it holds what is not settled", expected, found)
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


def _pair(asset: str, source: int, destination: int) -> tuple[str, str]:
    code = AssetCode(asset)
    return (
        transit_account(code, Partition(destination), "out", Partition(source)),
        transit_account(code, Partition(source), "in", Partition(destination)),
    )


def _pair_of(account: str) -> tuple[str, str]:
    _, asset, peer, side, partition = account.split(":")
    return _pair(asset, int(partition), int(peer)) if side == "out" else _pair(asset, int(peer), int(partition))
