"""Checks credits between partitions: what each batch sent and took in, and what the ledger has not settled yet."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.domain.ids import AssetCode, Partition, system_account, transit_account
from shared.journal.suspense import item_key
from shared.journal.transit import NETTED_FROM, TransitCredit, TransitRowError, decode_credits, return_id
from tellerline.verification.findings import Violated, expect
from tellerline.verification.rows import EntryLine, entry_of, is_transit, text_of

# (operation, account, asset) → minor units
Moves = defaultdict[tuple[str, str, str], int]


class SettledRow(NamedTuple):
    """A settlement with the transit row that it settles.

    `credits` None: they cannot be read. Then `carried` is what they must be: asset → minor units, as the operations of
    the source's batch say.
    """

    source: int
    source_batch: int
    credits: Sequence[TransitCredit] | None
    carried: Mapping[str, int] = {}


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
    unreadable: list[str] = field(default_factory=list[str])  # keys of transit rows that it sent
    _sent: dict[int, Moves] = field(default_factory=dict[int, Moves])
    set_aside: dict[str, str] = field(default_factory=dict[str, str])  # key of an entry on suspense → why it is there
    _nets: Counter[str] = field(default_factory=Counter[str])  # transit account → entries minus credits in rows
    # Entries on suspense, (account, minor units) → keys, that are not yet known to be of a row.
    _suspended: dict[tuple[str, int], list[str]] = field(default_factory=dict[tuple[str, int], list[str]])

    def enter(self, entry: EntryLine, delta: int) -> None:
        """Notes an entry without an operation: the net of a transit account, or a row set aside. Raises Violated."""
        if delta == 0:
            raise entry.breaks("an entry without an operation moves something", "not 0", delta)
        if is_transit(entry.account_id):
            self._nets[entry.account_id] += delta
        elif entry.account_id.startswith("suspense:"):
            self._suspended.setdefault((entry.account_id, delta), []).append(item_key(entry.account_id, int(entry.seq)))
        else:
            raise entry.breaks("only transit and suspense have entries without an operation", "an operation", "none")

    def send(self, destination: int, place: tuple[str, str, str], amount: int) -> None:
        """Notes that this batch's transit row to `destination` must hold this credit. `place`: as in Moves."""
        self._sent.setdefault(destination, Moves(int))[place] += amount

    def take_in(self, rows: Iterable[SettledRow], expected: Moves, found: Moves) -> None:
        """Adds to `expected` what the settled rows must have entered. `found`: what entries did. Raises Violated."""
        for row in rows:
            carried = row.carried if row.credits is None else totals(row.credits)
            for asset, amount in carried.items():
                peer = Partition(row.source)
                self._nets[transit_account(AssetCode(asset), peer, "in", self.partition)] += amount
            if row.credits is None:
                if not self._was_set_aside(row, carried, "cannot be read"):
                    key = f"{row.source}/{row.source_batch}/{self.partition}"
                    raise Violated("transit", key, "a row that cannot be read is set aside", carried, "no such entries")
            elif any(_place(credit) in found for credit in row.credits) or not self._was_set_aside(
                row, carried, "could not be taken in"
            ):
                for credit in row.credits:
                    self._land(credit, expected, found)
        for (account, amount), left in self._suspended.items():
            if left:
                raise Violated(
                    "entries", left[0], f"what is set aside on {account} is a whole transit row", "one", amount
                )
        if self.returned:
            rule = "a return is of a credit that was taken in here"
            raise Violated("operations", min(self.returned), rule, "one", "none")

    def check_sent(self, lines: Iterable[str]) -> None:
        """Each credit that the batch's operations send is in a transit row, and no other is. Raises Violated.

        A row that cannot be read is believed to hold the credits: its hash says whether it is as it was written.
        """
        for line in lines:
            source, batch, destination, text = line.split("\t")
            key = f"{source}/{batch}/{destination}"
            peer = Partition(int(destination))
            sent = self._sent.pop(peer, Moves(int))
            credits = read_credits(text_of(text))
            if credits is None:
                if not sent:
                    raise Violated("transit", key, "credits can be read", "JSON of a version that is known", text[:200])
                self.unreadable.append(key)
                found = sent
            else:
                found = Moves(int)
                for credit in credits:
                    found[_place(credit)] += credit.amount
            for (_, _, asset), amount in found.items():
                self._nets[transit_account(AssetCode(asset), peer, "out", self.partition)] -= amount
            _compare(key, sent, found)
        for destination, unsent in sorted(self._sent.items()):
            rule = f"its credit is on its way to partition {destination}"
            raise Violated("operations", min(unsent)[0], rule, "a row of transit", "none")

    def check_nets(self, lines: Sequence[str]) -> Mapping[str, int]:
        """The entries on transit accounts are the sums of the credits sent and taken in, and what they were netted by.

        `lines`: of the batch's entries. Returns account → minor units that netting has added. Raises Violated.
        """
        netted = {account: left for account, left in sorted(self._nets.items()) if left != 0}
        entries = [entry for entry in map(entry_of, lines) if is_transit(entry.account_id)] if netted else []
        large = {entry.asset for entry in entries if _is_large(entry)}
        sums = Counter[str]()
        for account, left in netted.items():
            sums[account.split(":")[1]] += left
        for account, left in netted.items():
            of_account = [entry for entry in entries if entry.account_id == account]
            asset = account.split(":")[1]
            if asset not in large or sums[asset] != 0 or not any(_nets_by(entry, left) for entry in of_account):
                seq = of_account[0].seq if of_account else "none"
                found = sum(int(entry.delta) for entry in of_account)
                rule = "the net entry is the sum of the credits in transit"
                raise Violated("entries", f"{account}/{seq}", rule, found - left, found)
        return netted

    def _was_set_aside(self, row: SettledRow, carried: Mapping[str, int], why: str) -> bool:
        """Whether the worker put all of this row on suspense, one entry for each asset. If so, notes these entries."""
        places = [
            (system_account("suspense", AssetCode(asset), self.partition), amount) for asset, amount in carried.items()
        ]
        if not places or not all(self._suspended.get(place) for place in places):
            return False
        for place in places:
            self.set_aside[self._suspended[place].pop(0)] = (
                f"transit row {row.source}/{row.source_batch}/{self.partition} {why}"
            )
        return True

    def _land(self, credit: TransitCredit, expected: Moves, found: Moves) -> None:
        """Expects the credit on its account, unless it was returned. A return may be on suspense instead."""
        back = self.returned.pop(return_id(credit.operation, self.partition), None) if self.returned else None
        if back is not None:
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

    `cursors`: destination → source → the last batch taken in. `netted`: account → minor units that netting has added.
    """

    cursors: Mapping[int, Mapping[int, int]]
    netted: Mapping[str, int]
    _waiting: Counter[str] = field(default_factory=Counter[str])  # account at the source → minor units

    def wait(self, source: int, batch: int, destination: int, carried: Mapping[str, int]) -> None:
        """Adds a transit row without a settlement. `carried`: asset → minor units.

        Raises Violated when the destination's cursor is past it.
        """
        cursor = self.cursors.get(destination, {}).get(source, 0)
        if batch <= cursor:
            rule = "a row behind the cursor is settled"
            key = f"{source}/{batch}/{destination}"
            raise Violated("transit", key, rule, "a row of settlements", f"cursor {cursor}")
        for asset, amount in carried.items():
            out = transit_account(AssetCode(asset), Partition(destination), "out", Partition(source))
            self._waiting[out] += amount

    def finish(self, balances: Mapping[str, int]) -> int:
        """Compares with the balances of all transit accounts. Returns the number of pairs. Raises Violated."""
        held = Counter[str]()
        for account, balance in balances.items():
            pair = account if ":out:" in account else _other_end(account)
            held[pair] += balance - self.netted.get(account, 0)
        pairs = self._waiting.keys() | held.keys()
        for out in sorted(pairs):
            rule = f"with {_other_end(out)} it holds what is not settled"
            expect("accounts", out, rule, self._waiting[out], held[out])
        return len(pairs)


def _is_large(entry: EntryLine) -> bool:
    """Whether the balance of this account, before or after, is one from which on transit accounts are netted."""
    after = int(entry.balance_after)
    return max(abs(after), abs(after - int(entry.delta))) >= NETTED_FROM


def _nets_by(entry: EntryLine, delta: int) -> bool:
    """Whether this entry takes the balance towards zero, not past it, by exactly this."""
    before = int(entry.balance_after) - delta
    return int(entry.delta) == delta and (0 < -delta <= before or 0 < delta <= -before)


def read_credits(text: str) -> Sequence[TransitCredit] | None:
    """The credits of a transit row; None when they cannot be read."""
    try:
        return decode_credits(text)
    except TransitRowError:
        return None


def totals(credits: Iterable[TransitCredit]) -> Counter[str]:
    """Asset → minor units that these credits carry."""
    carried = Counter[str]()
    for credit in credits:
        carried[credit.asset] += credit.amount
    return carried


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
