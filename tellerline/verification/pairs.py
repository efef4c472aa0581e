"""Over the whole ledger: what has left one partition and not reached the other is what is not settled (§4.4)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.ids import AssetCode, Partition, transit_account
from tellerline.verification.crossings import read_credits
from tellerline.verification.findings import Violated


class WaitingRow(NamedTuple):
    """A transit row without a settlement."""

    source: int
    batch: int
    destination: int
    credits: str


@dataclass(slots=True)
class PairProof:
    """`cursors`: destination → source → the last batch folded in."""

    cursors: Mapping[int, Mapping[int, int]]
    waiting_credits: int = 0
    _waiting: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])  # (out, in) → minor units

    def wait(self, row: WaitingRow) -> None:
        """Takes a transit row that nobody has settled. Raises Violated when it lies behind the cursor."""
        key = f"{row.source}/{row.batch}/{row.destination}"
        cursor = self.cursors.get(row.destination, {}).get(row.source, 0)
        if row.batch <= cursor:
            raise Violated(
                "transit", key, "a row behind the cursor is settled", "a row of settlements", f"cursor {cursor}"
            )
        for credit in read_credits(row.credits, key):
            self.waiting_credits += 1
            pair = _pair(credit.asset, row.source, row.destination)
            self._waiting[pair] = self._waiting.get(pair, 0) + credit.amount

    def finish(self, balances: Mapping[str, int]) -> int:
        """Compares with the balances of all transit accounts; the number of pairs. Raises Violated."""
        pairs = self._waiting.keys() | {_pair_of(account) for account in balances if ":clearing:" not in account}
        for out, into in sorted(pairs):
            expected, found = self._waiting.get((out, into), 0), balances.get(out, 0) + balances.get(into, 0)
            if expected != found:
                raise Violated("accounts", out, f"with {into} it holds what is not settled", expected, found)
        return len(pairs)


def _pair(asset: str, source: int, destination: int) -> tuple[str, str]:
    code = AssetCode(asset)
    return (
        transit_account(code, Partition(destination), "out", Partition(source)),
        transit_account(code, Partition(source), "in", Partition(destination)),
    )


def _pair_of(account: str) -> tuple[str, str]:
    _, asset, peer, side, partition = account.split(":")
    return _pair(asset, int(partition), int(peer)) if side == "out" else _pair(asset, int(peer), int(partition))


def check_totals(totals: Mapping[str, int]) -> None:
    """The balances of all accounts sum to zero. `totals`: asset → sum in minor units. Raises Violated."""
    for asset, total in sorted(totals.items()):
        if total != 0:
            raise Violated("entries", asset, "the balances of all accounts in an asset sum to zero", 0, total)
