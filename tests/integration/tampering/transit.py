"""What could be done to credits between partitions: transit rows, settlements, postings and entries."""

# ruff: noqa: E501 - a table: each statement on its line
from tests.integration.tampering.case import Case

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
POSTINGS = (
    Case(
        "a negative posting",
        "UPDATE ledger.operations SET postings = replace(postings, '\"2000\"', '\"-2000\"')",
        "operations ",
    ),
    Case(
        "a posting to what is in transit",
        "UPDATE ledger.operations SET postings = replace(postings, '{carol}', 'transit:USD:0:in:1') WHERE postings LIKE '%\"2000\"%'",
        "operations ",
    ),
    Case(
        "the amount of a posting to another partition",
        "UPDATE ledger.operations SET postings = replace(postings, '\"2000\"', '\"2001\"')",
        "entries {alice}/",
    ),
    Case(
        "the destination of a posting to another partition",
        "UPDATE ledger.operations SET postings = replace(postings, '{carol}', '{erin}') WHERE postings LIKE '%\"2000\"%'",
        "transit 0/",
    ),
    Case(
        "a credit of another operation",
        "UPDATE ledger.entries SET operation_id = (SELECT id FROM ledger.operations WHERE postings LIKE '%\"60\"%') WHERE account_id = '{carol}' AND delta = 2000",
        "entries {carol}/",
    ),
    Case(
        "a credit in another batch",
        "UPDATE ledger.entries SET batch = batch + 1, line = -1 WHERE account_id = '{carol}' AND delta = 2000",
        "entries {carol}/|batches 1/",
    ),
    Case(
        "a transit account's net",
        "UPDATE ledger.entries SET delta = delta + 1, balance_after = balance_after + 1 WHERE account_id = 'transit:USD:1:out:0' AND seq = (SELECT max(seq) FROM ledger.entries WHERE account_id = 'transit:USD:1:out:0')",
        "entries transit:USD:1:out:0/",
    ),
)
