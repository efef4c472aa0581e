"""What ports.Store.pending_transit says of transit rows in memory."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from services.ledger_worker.ports import PendingTransit, TransitRow
from shared.domain.ids import Partition


def waiting_rows(
    transit: Mapping[tuple[int, int, int], str],
    cursors: Sequence[tuple[Partition, Partition, int]],
    each_max: int,
    size_max: int,
) -> PendingTransit:
    """The rows (source, batch, destination) past the cursors: at most `each_max` of a pair, by turns up to the size."""
    pairs = [
        [
            TransitRow(Partition(row[0]), row[1], Partition(row[2]), credits)
            for row, credits in sorted(transit.items())
            if (row[2], row[0]) == (destination, source) and row[1] > after
        ]
        for destination, source, after in sorted(cursors)
    ]
    taken: list[TransitRow] = []
    size = 0
    for row in (row for turn in zip_longest(*(pair[:each_max] for pair in pairs)) for row in turn if row is not None):
        if size < size_max:
            taken.append(row)
        size += len(row.credits.encode())
    taken.sort(key=lambda row: (row.destination, row.source, row.batch))
    return PendingTransit(taken, is_more=len(taken) < sum(map(len, pairs)))
