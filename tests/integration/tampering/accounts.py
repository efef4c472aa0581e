"""What could be done to accounts and assets."""

# ruff: noqa: E501 - a table: each statement on its line
from tests.integration.tampering.case import Case

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
