"""Finds deposits in the network's list.

The list is read from a cursor on. Equal rows are told apart by their number among each other.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence

from shared.domain.values import value
from shared.mixer.jobcoin_rows import Address, AddressView, ListedRow, RowId, numbered, row_id


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
