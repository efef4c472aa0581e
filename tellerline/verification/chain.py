"""Checks one partition's batches in order: their numbers, instants, epochs, cursors and hashes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from shared.journal.rows import GENESIS_HASH, content_hash
from tellerline.verification.findings import Violated, expect


class BatchRow(NamedTuple):
    """A row of `batches`. `recorded_at_us` is microseconds since 1970 UTC."""

    partition: int
    batch: int
    epoch: int
    operations: int
    entries: int
    recorded_at_us: int
    cursors: str
    prev_hash: bytes
    content_hash: bytes
    hash: bytes

    @property
    def key(self) -> str:
        """The row's key."""
        return f"{self.partition}/{self.batch}"

    def recomputed(self) -> bytes:
        """What ledger.batch_hash should give; computed here, since a function in the database can be replaced."""
        place = f"tellerline.batch.v1|{self.partition}|{self.batch}|{self.epoch}|{self.recorded_at_us}|{self.cursors}"
        return hashlib.sha256(self.prev_hash + self.content_hash + place.encode()).digest()


# Stands for the predecessor of a partition's first batch.
BEFORE_ALL: Final = BatchRow(-1, 0, 0, 0, 0, -(2**63), "{}", b"", b"", GENESIS_HASH)


@dataclass(slots=True)
class Chain:
    """Where a partition's chain stands: `last` is the last batch that was checked."""

    partition: int
    partitions: int
    last: BatchRow = BEFORE_ALL
    cursors: dict[int, int] = field(default_factory=dict[int, int])

    def check_place(self, row: BatchRow) -> None:
        """Checks that the row is the next batch of the chain. Raises Violated."""
        last = self.last
        expect("batches", row.key, "batch has no gap", last.batch + 1, row.batch)
        rule = "prev_hash is the hash of the batch before"
        expect("batches", row.key, rule, last.hash.hex(), row.prev_hash.hex())
        if row.epoch < last.epoch:
            raise Violated("batches", row.key, "epoch does not fall", f">= {last.epoch}", row.epoch)
        if row.recorded_at_us <= last.recorded_at_us:
            expected = f"> {last.recorded_at_us} µs"
            raise Violated("batches", row.key, "recorded_at rises", expected, row.recorded_at_us)

    def check_cursors(self, row: BatchRow, settled: Mapping[int, Sequence[int]]) -> dict[int, int]:
        """Checks and returns the cursors. `settled`: source → its batches that this one settles. Raises Violated."""
        cursors = _read_cursors(row)
        for source, batches in settled.items():
            before = self.cursors.get(source, 0)
            if any(later <= earlier for earlier, later in zip([before, *batches], batches, strict=False)):
                key = f"{source}/{batches[0]}/{self.partition}"
                rule = "transit rows are taken in in order, once"
                raise Violated("settlements", key, rule, f"batches after {before}", batches)
        for source in sorted(self.cursors.keys() | cursors.keys() | settled.keys()):
            expected = settled[source][-1] if source in settled else self.cursors.get(source)
            if cursors.get(source) != expected:
                rule = f"the cursor of partition {source} is the last batch taken in"
                raise Violated("batches", row.key, rule, expected, cursors.get(source))
            if not 0 <= source < self.partitions or source == self.partition:
                rule = "cursors name other partitions"
                raise Violated("batches", row.key, rule, f"0 … {self.partitions - 1}", source)
        return cursors

    def advance(
        self,
        row: BatchRow,
        lines_of: Mapping[str, Sequence[str]],
        cursors: dict[int, int],
        *,
        unreadable: Sequence[str] = (),
    ) -> None:
        """Checks both hashes and moves to the row. Raises Violated.

        `lines_of`: table → lines without newline. `unreadable`: keys of transit rows that only the hash can vouch for.
        """
        content = content_hash({table: ["\n".join(lines), "\n"] for table, lines in lines_of.items()})
        if unreadable:
            rule = "what cannot be read is as it was written: the hash of its batch covers it"
            expect("transit", unreadable[0], rule, content.hex(), row.content_hash.hex())
        rule = "content_hash is that of the rows that the batch wrote"
        expect("batches", row.key, rule, content.hex(), row.content_hash.hex())
        expect("batches", row.key, "hash is that of the row", row.recomputed().hex(), row.hash.hex())
        self.last, self.cursors = row, cursors


def _read_cursors(row: BatchRow) -> dict[int, int]:
    try:
        read: Mapping[str, int] = json.loads(row.cursors)
        return {int(partition): int(batch) for partition, batch in read.items()}
    except (ValueError, TypeError, AttributeError):
        raise Violated("batches", row.key, "cursors is a JSON object of batches", '{"0":1}', row.cursors) from None
