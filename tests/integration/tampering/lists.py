"""What could be done to the lists of transactions, which no hash covers."""

# ruff: noqa: E501 - a table: each statement on its line
from tests.integration.tampering.case import Case

_OF_ALICE = "list = 'owner:' || (SELECT owner FROM ledger.accounts WHERE id = '{alice}')"
_ONE = "ctid = (SELECT min(ctid) FROM ledger.listed WHERE list = 'ledger' AND kind = 'transfer.v1')"

LISTS = (
    Case("a row of a list deleted", f"DELETE FROM ledger.listed WHERE {_ONE}", "listed ledger//USD/transfer.v1$"),
    Case("all lists deleted", "DELETE FROM ledger.listed", "listed ledger//USD/deposit.v1$"),
    Case("an owner's list deleted", f"DELETE FROM ledger.listed WHERE {_OF_ALICE}", "listed owner:"),
    Case("a row of another list", f"UPDATE ledger.listed SET list = 'owner:mallory' WHERE {_ONE}", "listed "),
    Case("a row under another reference", f"UPDATE ledger.listed SET reference = 'x' WHERE {_ONE}", "listed ledger/"),
    Case("a row under another asset", f"UPDATE ledger.listed SET asset = 'EUR' WHERE {_ONE}", "listed ledger//EUR"),
    Case(
        "a row under another kind", f"UPDATE ledger.listed SET kind = 'deposit.v1' WHERE {_ONE}", "listed ledger//USD"
    ),
    Case(
        "a row at another instant",
        f"UPDATE ledger.listed SET recorded_at = recorded_at + interval '1 microsecond' WHERE {_ONE}",
        "listed ledger//USD/transfer.v1$",
    ),
    Case("a row of another batch", f"UPDATE ledger.listed SET batch = batch + 1 WHERE {_ONE}", "listed ledger//USD"),
    Case("a row of no batch", f"UPDATE ledger.listed SET batch = 10000 WHERE {_ONE}", "listed ledger//USD/transfer.v1"),
    Case(
        "a row more, of no batch",
        "INSERT INTO ledger.listed SELECT list, reference, asset, kind, recorded_at, partition, 10000, lines, operations "
        f"FROM ledger.listed WHERE {_ONE}",
        "listed ledger//USD/transfer.v1 in batch",
    ),
    Case(
        "a row of another operation",
        f"UPDATE ledger.listed SET operations[1] = gen_random_uuid() WHERE {_ONE}",
        "listed ledger//USD/transfer.v1$",
    ),
    Case("a row of another line", f"UPDATE ledger.listed SET lines[1] = 99 WHERE {_ONE}", "listed ledger//USD"),
    Case("a row twice", f"INSERT INTO ledger.listed SELECT * FROM ledger.listed WHERE {_ONE}", "listed ledger//USD"),
    Case(
        "an operation in a list where it does not belong",
        "INSERT INTO ledger.listed SELECT 'owner:mallory', reference, asset, kind, recorded_at, partition, batch, "
        f"lines, operations FROM ledger.listed WHERE {_ONE}",
        "listed owner:mallory//USD/transfer.v1$",
    ),
)
