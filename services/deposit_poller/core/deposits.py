"""Deposits: how they are found in the network's list, and their states.

The list is read from a cursor on. Equal rows are told apart by their number among each other.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Final

from shared.domain.lifecycle import Lifecycle
from shared.domain.values import value
from shared.mixer.claimed_rows import ClaimedRow, Leg
from shared.mixer.jobcoin_rows import Address, AddressView, ListedRow, RowId, numbered, row_id


class DepositState(StrEnum):
    """Seen twice in the list; a sweep is under way; the sweep was seen in the list; the ledger has it; stuck."""

    SEEN = "seen"
    SWEEPING = "sweeping"
    SWEPT = "swept"
    CREDITED = "credited"
    STUCK = "stuck"


DEPOSIT_LIFECYCLE: Final = Lifecycle[StrEnum]("deposit", {
    DepositState.SEEN: frozenset({DepositState.SWEEPING, DepositState.STUCK}),
    # Back only once the list proves that the sweep was not applied.
    DepositState.SWEEPING: frozenset({DepositState.SWEPT, DepositState.SEEN, DepositState.STUCK}),
    DepositState.SWEPT: frozenset({DepositState.CREDITED, DepositState.STUCK}),
    DepositState.CREDITED: frozenset(),
    # An operator decides; coins that were swept are never swept again.
    DepositState.STUCK: frozenset({DepositState.SEEN, DepositState.SWEEPING, DepositState.SWEPT}),
})  # fmt: skip
SWEEP: Final = Leg("sweep", DepositState.SEEN, DepositState.SWEEPING, DepositState.SWEPT, is_read_at_source=True)


@value
class Deposit(ClaimedRow):
    """A claimed deposit. `minor` is its amount in minor units of JOB, rounded down.

    `credit_operation` is the operation that credited it.
    """

    state: DepositState
    mix: str
    listed: ListedRow
    minor: int
    credit_attempt: int
    credit_operation: str | None = None


@value
class ListedDeposit:
    """A listed transaction to a deposit address of `mix`, and its position in the list now."""

    id: RowId
    mix: str
    row: ListedRow
    occurrence: int
    position: int


def window_start(rows: Sequence[ListedRow], position: int) -> int:
    """Where to read on from a cursor. Equal rows share an instant and are numbered, so that whole instant is read."""
    start = min(position, len(rows))
    while 0 < start < len(rows) and rows[start - 1].timestamp == rows[start].timestamp:
        start -= 1
    return start


def listed_deposits(
    instance: str, rows: Sequence[ListedRow], start: int, mixes: Mapping[Address, str]
) -> Sequence[ListedDeposit]:
    """The transactions from `start` on that go to one of `mixes` (deposit address → mix), in the list's order."""
    ours = [(position, rows[position]) for position in range(start, len(rows)) if rows[position].destination in mixes]
    counted = numbered(row for _, row in ours)
    return [
        ListedDeposit(row_id(instance, row, occurrence), mixes[row.destination], row, occurrence, position)
        for (position, _), (row, occurrence) in zip(ours, counted, strict=True)
    ]


def is_confirmed(view: AddressView, deposit: ListedDeposit) -> bool:
    """True if the address's own transactions hold the deposit and add up to its balance."""
    return view.agrees and sum(row == deposit.row for row in view.rows) >= deposit.occurrence


def position_after(found: Sequence[ListedDeposit], recorded: Collection[RowId], end: int) -> int:
    """The cursor's next position: the first row that is not recorded yet, or `end`."""
    return min((deposit.position for deposit in found if deposit.id not in recorded), default=end)


class ListPrefix:
    """The beginning of the list that need not be read again: how many rows, and their hash."""

    __slots__ = ("_digest", "position")

    def __init__(self, rows: Sequence[ListedRow] = ()) -> None:
        self._digest = hashlib.sha256()
        self.position = 0
        self.extend(rows)

    def extend(self, rows: Sequence[ListedRow]) -> None:
        """Adds the rows that follow."""
        for row in rows:
            self._digest.update(row.line())
        self.position += len(rows)

    @property
    def hash(self) -> bytes:
        """SHA-256 over the rows so far."""
        return self._digest.digest()
