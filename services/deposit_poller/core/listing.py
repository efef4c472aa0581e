"""Finds deposits in the network's list: a window past the cursor, twins told apart by their number."""

import hashlib
from collections.abc import Collection, Mapping, Sequence

from shared.jobcoin_rows import Address, AddressView, Row, RowId, numbered, row_id
from shared.values import value


@value
class Sighting:
    """A listed transaction to one of our deposit addresses, and where in the list it stands now."""

    id: RowId
    mix: str
    row: Row
    occurrence: int
    position: int


def window_start(rows: Sequence[Row], position: int) -> int:
    """Where to read on from a cursor: twins share an instant, so the whole instant is read again."""
    start = min(position, len(rows))
    while 0 < start < len(rows) and rows[start - 1].timestamp == rows[start].timestamp:
        start -= 1
    return start


def sightings(instance: str, rows: Sequence[Row], start: int, mixes: Mapping[Address, str]) -> Sequence[Sighting]:
    """Every transaction from `start` on that goes to one of `mixes` (deposit address → mix), in the list's order."""
    ours = [(position, rows[position]) for position in range(start, len(rows)) if rows[position].destination in mixes]
    counted = numbered(row for _, row in ours)
    return [
        Sighting(row_id(instance, row, occurrence), mixes[row.destination], row, occurrence, position)
        for (position, _), (row, occurrence) in zip(ours, counted, strict=True)
    ]


def is_confirmed(view: AddressView, sighting: Sighting) -> bool:
    """Whether the address itself, balance and all, tells of this transaction too."""
    return view.agrees and sum(row == sighting.row for row in view.rows) >= sighting.occurrence


def position_after(found: Sequence[Sighting], counted: Collection[RowId], end: int) -> int:
    """The cursor's next position: nothing before it is still waiting to be counted."""
    return min((sighting.position for sighting in found if sighting.id not in counted), default=end)


class Prefix:
    """The beginning of the list that has been read: how many rows, and their hash."""

    __slots__ = ("_digest", "position")

    def __init__(self, rows: Sequence[Row] = ()) -> None:
        self._digest = hashlib.sha256()
        self.position = 0
        self.extend(rows)

    def extend(self, rows: Sequence[Row]) -> None:
        """Takes the rows that follow."""
        for row in rows:
            self._digest.update(row.line())
        self.position += len(rows)

    @property
    def hash(self) -> bytes:
        """SHA-256 over the rows so far."""
        return self._digest.digest()
