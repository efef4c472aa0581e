"""What could be done to entries: their amounts, and where they stand."""

# ruff: noqa: E501 - a table: each statement on its line
from tests.integration.tampering.case import Case


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
