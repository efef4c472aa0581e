"""What somebody who owns the database could do to the journal, and the row that `verify` must name for it."""

# ruff: noqa: E501 - a table: each statement on its line
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """`found` is the beginning of "table key", a regular expression; {names} are accounts of the scenario."""

    name: str
    statement: str
    found: str


def _entry(change: str, account: str = "alice", seq: int = 2) -> str:
    return f"UPDATE ledger.entries SET {change} WHERE account_id = '{{{account}}}' AND seq = {seq}"


LAST = "(SELECT max(seq) FROM ledger.entries WHERE account_id = '{alice}')"
AMOUNTS = (
    Case("an amount", _entry("delta = delta + 1"), "entries {alice}/2$"),
    Case(
        "an amount and the balance after it",
        _entry("delta = delta + 1, balance_after = balance_after + 1"),
        "entries {alice}/3$",
    ),
    Case(
        "an amount and every balance from there on",
        _entry("delta = delta + 1")
        + "; UPDATE ledger.entries SET balance_after = balance_after + 1 WHERE account_id = '{alice}' AND seq >= 2",
        "entries {alice}/2$",
    ),
    Case("a balance", _entry("balance_after = balance_after - 1"), "entries {alice}/2$"),
    Case(
        "the last balance",
        f"UPDATE ledger.entries SET balance_after = balance_after + 5 WHERE account_id = '{{alice}}' AND seq = {LAST}",
        "entries {alice}/",
    ),
    Case("NaN as an amount", _entry("delta = 'NaN'"), "entries {alice}/2$"),
    Case("NaN as a balance", _entry("balance_after = 'NaN'"), "entries {alice}/2$"),
    Case("NaN as a limit", _entry("limit_after = 'NaN'", "carol", 1), "entries {carol}/1$"),
    Case(
        "NaN in every number of an account",
        "UPDATE ledger.entries SET delta = 'NaN', balance_after = 'NaN', held_delta = 'NaN', held_after = 'NaN' WHERE account_id = '{dave}'",
        "entries {dave}/1$",
    ),
    Case("what is held", _entry("held_after = held_after + 1"), "entries {alice}/2$"),
    Case(
        "what is held from there on",
        "UPDATE ledger.entries SET held_after = held_after + 1, held_delta = held_delta + (seq = 1)::int WHERE account_id = '{alice}'",
        "entries {alice}/",
    ),
    Case("an overdraft limit", _entry("limit_after = 900", "carol", 1), "entries {carol}/2$"),
    Case(
        "no overdraft limit ever",
        "UPDATE ledger.entries SET limit_after = 0 WHERE account_id = '{carol}'",
        "entries {carol}/",
    ),
    Case("a status", _entry("status_after = 'frozen'"), "entries {alice}/2$"),
    Case(
        "an account opened again after it was closed",
        "UPDATE ledger.entries SET status_after = 'open' WHERE account_id = '{erin}'; UPDATE ledger.accounts SET status = 'open' WHERE id = '{erin}'",
        "entries {erin}/1$",
    ),
)
PLACES = (
    Case("an entry of another account", _entry("account_id = '{bob}'", "alice", 2), "entries {alice}/3$"),
    Case("an entry of no account", _entry("account_id = 'nobody'"), "entries {alice}/3$|entries nobody"),
    Case("an entry in another asset", _entry("asset = 'EUR'"), "entries {alice}/2$"),
    Case("an entry in another partition", _entry("partition = 3"), "entries {alice}/2$"),
    Case("an entry in a later batch", _entry("batch = 10000"), "entries {alice}/3$"),
    Case("an entry in another batch", f"UPDATE ledger.entries SET batch = batch + 1000 WHERE account_id = '{{alice}}' AND seq = {LAST}", "entries|batches"),
    Case("an entry of another operation", _entry("operation_id = (SELECT min(id::text)::uuid FROM ledger.operations)"), "entries {alice}/2$"),
    Case("an entry without an operation", _entry("operation_id = NULL"), "entries {alice}/2$"),
    Case("an entry on another line", _entry("line = 99"), "entries {alice}/3$"),
    Case("two entries swapped", "UPDATE ledger.entries SET seq = 5 - seq WHERE account_id = '{alice}' AND seq IN (2, 3)", "entries {alice}/2$"),
    Case("an entry deleted", "DELETE FROM ledger.entries WHERE account_id = '{alice}' AND seq = 2", "entries {alice}/3$"),
    Case("the first entry deleted", "DELETE FROM ledger.entries WHERE account_id = '{alice}' AND seq = 1", "entries {alice}/2$"),
    Case("the last entry deleted", f"DELETE FROM ledger.entries WHERE account_id = '{{alice}}' AND seq = {LAST}", "entries {alice}/none$"),
    Case("all entries of an account deleted", "DELETE FROM ledger.entries WHERE account_id = '{dave}'", "entries {dave}/none$"),
    Case("an entry twice", "INSERT INTO ledger.entries SELECT * FROM ledger.entries WHERE account_id = '{alice}' AND seq = 2", "entries {alice}/2$"),
    Case(
        "a pair of entries that sums to zero",
        "INSERT INTO ledger.entries SELECT account_id, seq + 1, operation_id, asset, sign(delta), 0, balance_after + sign(delta), held_after, "
        "limit_after, status_after, partition, batch, line + 50 FROM (SELECT DISTINCT ON (account_id) * FROM ledger.entries "
        "WHERE account_id IN ('{bob}', 'world:USD:0') ORDER BY account_id, seq DESC) last",
        "entries (world:USD:0|{bob})/",
    ),
    Case("a whole transaction in a batch that does not exist",
         "INSERT INTO ledger.entries SELECT account_id, seq + 1, operation_id, asset, sign(delta), 0, balance_after + sign(delta), held_after, "
         "limit_after, status_after, partition, 10000, line FROM (SELECT DISTINCT ON (account_id) * FROM ledger.entries "
         "WHERE account_id IN ('{bob}', 'world:USD:0') ORDER BY account_id, seq DESC) last",
         "entries (world:USD:0|{bob})/"),
)  # fmt: skip
OPERATIONS = (
    Case(
        "a refusal made a success",
        "UPDATE ledger.operations SET outcome = 'posted', code = NULL WHERE code = 'insufficient_funds'",
        "entries .*/none$",
    ),
    Case(
        "a success made a refusal",
        "UPDATE ledger.operations SET outcome = 'rejected', code = 'cancelled' WHERE kind = 'withdrawal.v1' AND outcome = 'posted'",
        "entries ",
    ),
    Case(
        "an outcome without its code",
        "UPDATE ledger.operations SET code = NULL WHERE code = 'cancelled'",
        "operations ",
    ),
    Case(
        "an unknown outcome", "UPDATE ledger.operations SET outcome = 'maybe' WHERE code = 'cancelled'", "operations "
    ),
    Case(
        "the code of a refusal",
        "UPDATE ledger.operations SET code = 'limit_exceeded' WHERE code = 'insufficient_funds'",
        "batches 0/",
    ),
    Case(
        "a posting's amount",
        "UPDATE ledger.operations SET postings = replace(postings, '\"1000\"', '\"1001\"') WHERE postings LIKE '%\"1000\"%'",
        "entries {alice}/",
    ),
    Case(
        "a posting's destination",
        "UPDATE ledger.operations SET postings = replace(postings, '{bob}', '{alice}x') WHERE postings LIKE '%{bob}%' AND kind = 'transfer.v1' AND outcome = 'posted'",
        "entries ",
    ),
    Case(
        "a posting's asset",
        "UPDATE ledger.operations SET postings = replace(postings, 'USD\"]', 'EUR\"]') WHERE postings LIKE '%\"1000\"%'",
        "entries ",
    ),
    Case(
        "postings that cannot be read",
        "UPDATE ledger.operations SET postings = '[[1' WHERE kind = 'deposit.v1'",
        "operations ",
    ),
    Case("who asked", "UPDATE ledger.operations SET principal = 'mallory' WHERE kind = 'deposit.v1'", "batches 0/"),
    Case(
        "a fingerprint",
        "UPDATE ledger.operations SET fingerprint = sha256('x'::bytea) WHERE kind = 'deposit.v1'",
        "batches 0/",
    ),
    Case("a reference", "UPDATE ledger.operations SET reference = 'mine' WHERE kind = 'deposit.v1'", "batches 0/"),
    Case(
        "an operation's metadata",
        "UPDATE ledger.operations SET metadata = '{{}}' WHERE kind = 'deposit.v1'",
        "batches 0/",
    ),
    Case(
        "an operation deleted",
        "DELETE FROM ledger.operations WHERE kind = 'deposit.v1'",
        "entries {alice}/1$|entries world:USD:0/1$",
    ),
    Case("a refusal deleted", "DELETE FROM ledger.operations WHERE code = 'insufficient_funds'", "batches 0/"),
    Case(
        "an operation twice",
        "INSERT INTO ledger.operations SELECT * FROM ledger.operations WHERE code = 'insufficient_funds'",
        "batches 0/|operations ",
    ),
    Case(
        "a refusal invented",
        "INSERT INTO ledger.operations SELECT gen_random_uuid(), partition, batch, line + 50, kind, principal, fingerprint, outcome, code FROM ledger.operations WHERE code = 'cancelled'",
        "batches 0/",
    ),
    Case(
        "an operation of a batch that does not exist",
        "INSERT INTO ledger.operations SELECT gen_random_uuid(), partition, 10000, line, kind, principal, fingerprint, outcome, code FROM ledger.operations WHERE code = 'cancelled'",
        "operations ",
    ),
    Case(
        "an operation of a partition that does not exist",
        "INSERT INTO ledger.operations SELECT gen_random_uuid(), 9, 1, line, kind, principal, fingerprint, outcome, code FROM ledger.operations WHERE code = 'cancelled'",
        "operations ",
    ),
)
ACCOUNTS = (
    Case("an account's owner", "UPDATE ledger.accounts SET owner = 'mallory' WHERE id = '{alice}'", "batches 0/1$"),
    Case("an account's asset", "UPDATE ledger.accounts SET asset = 'EUR' WHERE id = '{alice}'", "entries {alice}/1$"),
    Case(
        "an account in an unknown asset",
        "UPDATE ledger.accounts SET asset = 'XXX' WHERE id = '{alice}'",
        "accounts {alice}$",
    ),
    Case(
        "a system account's asset",
        "UPDATE ledger.accounts SET asset = 'EUR' WHERE id = 'world:USD:0'",
        "accounts world:USD:0$",
    ),
    Case(
        "an account's partition", "UPDATE ledger.accounts SET partition = 3 WHERE id = '{alice}'", "accounts {alice}$"
    ),
    Case(
        "an account's status", "UPDATE ledger.accounts SET status = 'frozen' WHERE id = '{alice}'", "accounts {alice}$"
    ),
    Case(
        "an account's metadata",
        "UPDATE ledger.accounts SET metadata = '{{}}' WHERE id = '{carol}'",
        "accounts {carol}$",
    ),
    Case(
        "metadata out of nothing",
        "UPDATE ledger.accounts SET metadata = '{{}}' WHERE id = '{alice}'",
        "accounts {alice}$",
    ),
    Case("an account's batch", "UPDATE ledger.accounts SET batch = 2 WHERE id = '{bob}'", "operations |accounts {bob}"),
    Case("an account deleted", "DELETE FROM ledger.accounts WHERE id = '{bob}'", "entries {bob}/1$"),
    Case(
        "an account without entries deleted",
        "DELETE FROM ledger.accounts WHERE id = 'suspense:USD:2'",
        "entries suspense:USD:2/1",
    ),
    Case(
        "an account invented",
        "INSERT INTO ledger.accounts SELECT id || '2', asset, owner, partition_of, batch, status FROM ledger.accounts, LATERAL (SELECT 1 AS partition_of) p WHERE id = '{carol}'",
        "accounts {carol}2$",
    ),
    Case(
        "an account with an impossible id", "UPDATE ledger.accounts SET id = 'A b' WHERE id = '{bob}'", "accounts A b$"
    ),
)
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
        "accounts .* in batch 2/1",
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
    Case("a partition's epoch", "UPDATE ledger.partitions SET epoch = 0 WHERE partition = 0", "partitions 0$"),
    Case("a partition deleted", "DELETE FROM ledger.partitions WHERE partition = 3", "partitions all$"),
    Case(
        "the number of partitions",
        "UPDATE ledger.constants SET partitions = 8; INSERT INTO ledger.partitions (partition) SELECT generate_series(4, 7)",
        "accounts ",
    ),
)
TRANSIT = (
    Case(
        "a credit's amount",
        "UPDATE ledger.transit SET credits = replace(credits, '\"2000\"', '\"2001\"')",
        "transit 0/",
    ),
    Case(
        "a credit's account",
        "UPDATE ledger.transit SET credits = replace(credits, '{carol}', '{erin}') WHERE credits LIKE '%\"2000\"%'",
        "transit 0/",
    ),
    Case(
        "a credit that waits", "UPDATE ledger.transit SET credits = replace(credits, '\"60\"', '\"61\"')", "transit 0/"
    ),
    Case(
        "credits that cannot be read",
        "UPDATE ledger.transit SET credits = '{{}}' WHERE credits LIKE '%\"60\"%'",
        "transit 0/",
    ),
    Case(
        "who hears of a credit",
        'UPDATE ledger.transit SET credits = replace(credits, \'"replies":[]\', \'"replies":["x"]\') WHERE credits LIKE \'%"60"%\'',
        "batches 0/",
    ),
    Case(
        "another destination", "UPDATE ledger.transit SET destination = 3 WHERE credits LIKE '%\"60\"%'", "transit 0/"
    ),
    Case(
        "another source batch",
        "UPDATE ledger.transit SET batch = batch - 1 WHERE credits LIKE '%\"60\"%'",
        "transit 0/",
    ),
    Case("a settled row deleted", "DELETE FROM ledger.transit WHERE credits LIKE '%\"2000\"%'", "operations "),
    Case("a waiting row deleted", "DELETE FROM ledger.transit WHERE credits LIKE '%\"60\"%'", "operations "),
    Case(
        "a waiting row invented",
        "INSERT INTO ledger.transit SELECT 3, 1, destination, credits FROM ledger.transit WHERE credits LIKE '%\"60\"%'",
        "transit 1 in batch 3/1$",
    ),
    Case(
        "a row invented in a batch that exists",
        "INSERT INTO ledger.transit SELECT 2, 1, destination, credits FROM ledger.transit WHERE credits LIKE '%\"60\"%'",
        "transit 2/1/1$",
    ),
    Case(
        "a settlement deleted",
        "DELETE FROM ledger.settlements WHERE destination = 1 AND source_batch = (SELECT batch FROM ledger.transit WHERE credits LIKE '%\"2000\"%')",
        "entries {carol}/",
    ),
    Case(
        "a settlement in another batch",
        "UPDATE ledger.settlements SET batch = batch + 1 WHERE destination = 1 AND source = 0",
        "entries {carol}/|settlements",
    ),
    Case(
        "a settlement of another row",
        "UPDATE ledger.settlements SET source_batch = 1 WHERE destination = 1 AND source = 0 AND source_batch = (SELECT batch FROM ledger.transit WHERE credits LIKE '%\"2000\"%')",
        "settlements 0/1/1$",
    ),
    Case(
        "a settlement invented",
        "INSERT INTO ledger.settlements SELECT source, batch, destination, 1 FROM ledger.transit WHERE credits LIKE '%\"60\"%'",
        "entries {carol}/none$",
    ),
    Case(
        "a settlement of a batch that does not exist",
        "INSERT INTO ledger.settlements SELECT source, batch, destination, 10000 FROM ledger.transit WHERE credits LIKE '%\"60\"%'",
        "settlements ",
    ),
    Case(
        "a settlement twice",
        "INSERT INTO ledger.settlements SELECT source, source_batch, destination, batch + 1 FROM ledger.settlements WHERE destination = 1",
        "settlements |entries ",
    ),
)
HOLDS = (
    Case("a hold's amount", "UPDATE ledger.holds SET amount = amount + 1 WHERE amount = 200", "entries {alice}/"),
    Case("NaN as a hold's amount", "UPDATE ledger.holds SET amount = 'NaN' WHERE amount = 200", "holds {alice}$"),
    Case(
        "an ended hold's amount", "UPDATE ledger.holds SET amount = amount + 1 WHERE amount = 500", "entries {alice}/"
    ),
    Case("a hold's account", "UPDATE ledger.holds SET account_id = '{bob}' WHERE amount = 200", "entries {alice}/"),
    Case(
        "a hold of no account",
        "UPDATE ledger.holds SET account_id = 'nobody' WHERE amount = 200",
        "entries {alice}/|holds nobody",
    ),
    Case("a hold's asset", "UPDATE ledger.holds SET asset = 'EUR' WHERE amount = 200", "entries {alice}/"),
    Case("a hold's end of life", "UPDATE ledger.holds SET expires_at_us = 1 WHERE amount = 200", "batches 0/"),
    Case(
        "a hold of another operation",
        "UPDATE ledger.holds SET operation_id = gen_random_uuid() WHERE amount = 200",
        "holds ",
    ),
    Case("an open hold deleted", "DELETE FROM ledger.holds WHERE amount = 200", "entries {alice}/"),
    Case("an ended hold deleted", "DELETE FROM ledger.holds WHERE amount = 500", "operations |hold_ends "),
    Case(
        "a hold in another batch", "UPDATE ledger.holds SET batch = batch + 1 WHERE amount = 200", "operations |holds "
    ),
    Case(
        "a hold in a batch that does not exist",
        "INSERT INTO ledger.holds SELECT gen_random_uuid(), '{bob}', asset, amount, destination, operation_id, expires_at_us, 3, 77 FROM ledger.holds WHERE amount = 500",
        "entries {bob}/|holds ",
    ),
    Case("an end deleted", "DELETE FROM ledger.hold_ends WHERE ended = 'voided'", "entries {alice}/"),
    Case("how a hold ended", "UPDATE ledger.hold_ends SET ended = 'captured' WHERE ended = 'voided'", "hold_ends "),
    Case(
        "an end of another hold",
        "UPDATE ledger.hold_ends SET hold_id = (SELECT id FROM ledger.holds WHERE amount = 200) WHERE ended = 'voided'",
        "entries {alice}/|hold_ends ",
    ),
    Case(
        "an end by another operation",
        "UPDATE ledger.hold_ends SET operation_id = gen_random_uuid() WHERE ended = 'voided'",
        "hold_ends ",
    ),
    Case(
        "an end invented",
        "INSERT INTO ledger.hold_ends SELECT id, 'expired', operation_id, partition, batch FROM ledger.holds WHERE amount = 200",
        "entries {alice}/",
    ),
)
ASSETS = (
    Case("a scale of the start", "UPDATE ledger.assets SET scale = 3 WHERE code = 'USD'", "assets USD$"),
    Case("a scale that an operation set", "UPDATE ledger.assets SET scale = 2 WHERE code = 'GOLD'", "assets GOLD$"),
    Case("an asset's name", "UPDATE ledger.assets SET name = 'Lead' WHERE code = 'GOLD'", "assets GOLD$"),
    Case(
        "an asset invented", "INSERT INTO ledger.assets (code, scale, name) VALUES ('LEAD', 2, 'Lead')", "assets LEAD$"
    ),
    Case(
        "an asset of another operation",
        "UPDATE ledger.assets SET operation_id = (SELECT id FROM ledger.operations WHERE kind = 'deposit.v1') WHERE code = 'GOLD'",
        "assets GOLD$",
    ),
    Case("an asset deleted", "DELETE FROM ledger.assets WHERE code = 'GOLD'", "operations "),
    Case("an asset of the start deleted", "DELETE FROM ledger.assets WHERE code = 'EUR'", "assets EUR$"),
)
CASES = (*AMOUNTS, *PLACES, *OPERATIONS, *ACCOUNTS, *BATCHES, *TRANSIT, *HOLDS, *ASSETS)
