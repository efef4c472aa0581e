"""One partition's batches in their order: numbers, instants, epochs, cursors and hashes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.journal.rows import GENESIS_HASH, content_hash
from tellerline.verification.findings import Violated


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
        """What ledger.batch_hash should say; worked out here, since a function in the database can be replaced."""
        place = f"tellerline.batch.v1|{self.partition}|{self.batch}|{self.epoch}|{self.recorded_at_us}|{self.cursors}"
        return hashlib.sha256(self.prev_hash + self.content_hash + place.encode()).digest()


@dataclass(slots=True)
class Chain:
    """Where a partition's chain stands after the last batch that was checked."""

    partition: int
    partitions: int
    batch: int = 0
    epoch: int = 0
    recorded_at_us: int = -(2**63)
    hash: bytes = GENESIS_HASH
    cursors: dict[int, int] = field(default_factory=dict[int, int])

    def check_place(self, row: BatchRow) -> None:
        """The row is the next batch. Raises Violated."""
        rules = (
            (row.batch == self.batch + 1, "batch has no gap", self.batch + 1, row.batch),
            (
                row.prev_hash == self.hash,
                "prev_hash is the hash of the batch before",
                self.hash.hex(),
                row.prev_hash.hex(),
            ),
            (row.epoch >= self.epoch, "epoch does not fall", f">= {self.epoch}", row.epoch),
            (
                row.recorded_at_us > self.recorded_at_us,
                "recorded_at rises",
                f"> {self.recorded_at_us} µs",
                row.recorded_at_us,
            ),
        )
        for holds, rule, expected, found in rules:
            if not holds:
                raise Violated("batches", row.key, rule, expected, found)

    def check_cursors(self, row: BatchRow, settled: Mapping[int, Sequence[int]]) -> dict[int, int]:
        """The cursors after the batch. `settled`: source → its batches that this one settles. Raises Violated."""
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
                raise Violated(
                    "batches", row.key, "cursors name other partitions", f"0 … {self.partitions - 1}", source
                )
        return cursors

    def advance(self, row: BatchRow, lines_of: Mapping[str, Sequence[str]], cursors: dict[int, int]) -> None:
        """Recomputes both hashes and moves on. `lines_of`: table → lines without their newline. Raises Violated."""
        content = content_hash({table: [f"{line}\n" for line in lines] for table, lines in lines_of.items()})
        if content != row.content_hash:
            rule = "content_hash is that of the rows that the batch wrote"
            raise Violated("batches", row.key, rule, content.hex(), row.content_hash.hex())
        if (recomputed := row.recomputed()) != row.hash:
            raise Violated("batches", row.key, "hash is that of the row", recomputed.hex(), row.hash.hex())
        self.batch, self.epoch, self.recorded_at_us, self.hash = row.batch, row.epoch, row.recorded_at_us, row.hash
        self.cursors = cursors


def _read_cursors(row: BatchRow) -> dict[int, int]:
    try:
        read: Mapping[str, int] = json.loads(row.cursors)
        return {int(partition): int(batch) for partition, batch in read.items()}
    except (ValueError, TypeError, AttributeError):
        raise Violated("batches", row.key, "cursors is a JSON object of batches", '{"0":1}', row.cursors) from None
