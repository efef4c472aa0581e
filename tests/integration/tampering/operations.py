"""What could be done to operations and to the holds that they place and end."""

# ruff: noqa: E501 - a table: each statement on its line
from tests.integration.tampering.case import Case

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
