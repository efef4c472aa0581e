"""What could be done to batches and partitions."""

# ruff: noqa: E501 - a table: each statement on its line
from tests.integration.tampering.case import Case

BATCHES = (
    Case(
        "a hash",
        "UPDATE ledger.batches SET hash = sha256('x'::bytea) WHERE partition = 0 AND batch = 3",
        "batches 0/3$",
    ),
    Case(
        "a content hash",
        "UPDATE ledger.batches SET content_hash = sha256('x'::bytea) WHERE partition = 0 AND batch = 3",
        "batches 0/3$",
    ),
    Case(
        "a previous hash",
        "UPDATE ledger.batches SET prev_hash = sha256('x'::bytea) WHERE partition = 0 AND batch = 3",
        "batches 0/3$",
    ),
    Case(
        "a hash and the previous hash of the next",
        "UPDATE ledger.batches SET hash = CASE batch WHEN 3 THEN sha256('x'::bytea) ELSE hash END, prev_hash = CASE batch WHEN 4 THEN sha256('x'::bytea) ELSE prev_hash END WHERE partition = 0",
        "batches 0/3$",
    ),
    Case("an epoch", "UPDATE ledger.batches SET epoch = epoch + 1 WHERE partition = 0 AND batch = 3", "batches 0/3$"),
    Case(
        "a lower epoch", "UPDATE ledger.batches SET epoch = epoch - 1 WHERE partition = 0 AND batch = 3", "batches 0/3$"
    ),
    Case(
        "an instant",
        "UPDATE ledger.batches SET recorded_at = recorded_at + interval '1 microsecond' WHERE partition = 0 AND batch = 3",
        "batches 0/3$",
    ),
    Case(
        "an earlier instant",
        "UPDATE ledger.batches SET recorded_at = recorded_at - interval '1 hour' WHERE partition = 0 AND batch = 3",
        "batches 0/3$",
    ),
    Case(
        "an endless instant",
        "UPDATE ledger.batches SET recorded_at = 'infinity' WHERE partition = 0 AND batch = 3",
        "batches 0/3$",
    ),
    Case(
        "cursors", "UPDATE ledger.batches SET cursors = '{{\"1\":1}}' WHERE partition = 0 AND batch = 3", "batches 0/3$"
    ),
    Case(
        "cursors that cannot be read",
        "UPDATE ledger.batches SET cursors = '[]' WHERE partition = 0 AND batch = 3",
        "batches 0/3$",
    ),
    Case(
        "cursors from there on",
        "UPDATE ledger.batches SET cursors = '{{\"2\":1}}' WHERE partition = 0 AND batch > 3",
        "batches 0/",
    ),
    Case(
        "how many operations",
        "UPDATE ledger.batches SET operations = operations + 1 WHERE partition = 0 AND batch = 3",
        "batches 0/3$",
    ),
    Case(
        "how many entries",
        "UPDATE ledger.batches SET entries = entries - 1 WHERE partition = 0 AND batch = 3",
        "batches 0/3$",
    ),
    Case("a batch deleted", "DELETE FROM ledger.batches WHERE partition = 0 AND batch = 3", "batches 0/4$"),
    Case("the first batch deleted", "DELETE FROM ledger.batches WHERE partition = 0 AND batch = 1", "batches 0/2$"),
    Case(
        "the last batch deleted",
        "DELETE FROM ledger.batches WHERE partition = 0 AND batch = (SELECT max(batch) FROM ledger.batches WHERE partition = 0)",
        "operations |entries ",
    ),
    Case(
        "all batches of a partition deleted",
        "DELETE FROM ledger.batches WHERE partition = 2",
        "accounts {dave} in batch 2/1$",
    ),
    Case(
        "a batch invented",
        "INSERT INTO ledger.batches SELECT partition, batch + 1, epoch, 0, 0, recorded_at + interval '1 s', cursors, hash, content_hash, hash FROM ledger.batches WHERE partition = 1 ORDER BY batch DESC LIMIT 1",
        "batches 1/",
    ),
    Case(
        "a batch of no partition",
        "INSERT INTO ledger.batches SELECT 9, batch, epoch, operations, entries, recorded_at, cursors, prev_hash, content_hash, hash FROM ledger.batches WHERE partition = 1 AND batch = 1",
        "batches 9/1$",
    ),
    Case(
        "a batch that stands there twice",
        "INSERT INTO ledger.batches SELECT partition, batch, epoch, operations, entries, recorded_at, cursors, prev_hash, content_hash, sha256('x'::bytea) FROM ledger.batches WHERE partition = 0 AND batch = 3",
        "batches 0/3$",
    ),
    Case("a partition's epoch", "UPDATE ledger.partitions SET epoch = 0 WHERE partition = 0", "partitions 0$"),
    Case("a partition deleted", "DELETE FROM ledger.partitions WHERE partition = 3", "partitions all$"),
    Case(
        "the number of partitions",
        "UPDATE ledger.constants SET partitions = 8; INSERT INTO ledger.partitions (partition) SELECT generate_series(4, 7)",
        "accounts ",
    ),
)
