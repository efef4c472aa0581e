"""What could be done to what crosses between partitions: transit rows, settlements, credits that were cleared."""

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
# Of two credits of 31 to carol in one batch, the first was cleared and the other is in transit.
FIRST = "(SELECT min(seq) FROM ledger.entries WHERE account_id = '{carol}' AND delta = 31)"
CLEARED = f"(SELECT operation_id FROM ledger.entries WHERE account_id = '{{carol}}' AND seq = {FIRST})"
IN_TRANSIT = (
    "(SELECT operation_id FROM ledger.entries WHERE account_id = '{carol}' AND delta = 31 ORDER BY seq DESC LIMIT 1)"
)
CLEARING = (
    Case(
        "nothing was cleared",
        "UPDATE ledger.batches SET cleared = '{{}}' WHERE partition = 0",
        "operations |transit 0/",
    ),
    Case(
        "cleared in a later batch",
        "UPDATE ledger.batches SET cleared = '{{\"1\":10000}}' WHERE partition = 0 AND cleared <> '{{}}'",
        "batches 0/",
    ),
    Case(
        "cleared with a partition that got nothing",
        "UPDATE ledger.batches SET cleared = replace(cleared, '}}', ',\"3\":1}}') WHERE partition = 0 AND cleared <> '{{}}'",
        "batches 0/",
    ),
    Case(
        "cleared where all went through transit",
        "UPDATE ledger.batches SET cleared = '{{\"1\":1}}' WHERE partition = 0 AND batch = (SELECT batch FROM ledger.transit WHERE credits LIKE '%\"2000\"%')",
        "batches 0/",
    ),
    Case(
        "cleared that cannot be read",
        "UPDATE ledger.batches SET cleared = 'x' WHERE partition = 1 AND cleared <> '{{}}'",
        "batches 1/",
    ),
    Case(
        "cleared that names no batch",
        "UPDATE ledger.batches SET cleared = '{{\"1\":\"x\"}}' WHERE partition = 0 AND cleared <> '{{}}'",
        "batches 0/",
    ),
    Case(
        "a negative posting",
        f"UPDATE ledger.operations SET postings = replace(postings, '\"31\"', '\"-31\"') WHERE id = {CLEARED}",
        "operations ",
    ),
    Case(
        "a posting to what is in transit",
        f"UPDATE ledger.operations SET postings = replace(postings, '{{carol}}', 'transit:USD:clearing:1') WHERE id = {CLEARED}",
        "operations ",
    ),
    Case(
        "a cleared posting's amount",
        f"UPDATE ledger.operations SET postings = replace(postings, '\"31\"', '\"32\"') WHERE id = {CLEARED}",
        "entries {alice}/",
    ),
    Case(
        "a cleared posting's destination",
        f"UPDATE ledger.operations SET postings = replace(postings, '{{carol}}', '{{erin}}') WHERE id = {CLEARED}",
        "batches 0/",
    ),
    Case(
        "a cleared posting's amount and its debit",
        "UPDATE ledger.operations SET postings = replace(postings, '\"33\"', '\"32\"');"
        "UPDATE ledger.entries SET delta = -32, balance_after = balance_after + 1 WHERE account_id = '{carol}' AND delta = -33;"
        "UPDATE ledger.entries SET balance_after = balance_after + 1 WHERE account_id = '{carol}' AND seq > (SELECT seq FROM ledger.entries WHERE account_id = '{carol}' AND delta = -32)",
        "entries {bob}/",
    ),
    Case(
        "a credit in transit entered instead of a cleared one",
        f"UPDATE ledger.entries SET operation_id = {IN_TRANSIT} WHERE account_id = '{{carol}}' AND seq = {FIRST}",
        "entries {carol}/",
    ),
    Case(
        "a cleared credit of another operation",
        "UPDATE ledger.entries SET operation_id = (SELECT id FROM ledger.operations WHERE postings LIKE '%\"2000\"%') WHERE account_id = '{carol}' AND delta = 31",
        "entries {carol}/",
    ),
    Case(
        "a cleared credit in the batch of the one in transit",
        f"UPDATE ledger.entries SET batch = batch + 1, line = -1 WHERE account_id = '{{carol}}' AND seq = {FIRST}",
        "entries {carol}/",
    ),
    Case(
        "a clearing account's net",
        "UPDATE ledger.entries SET delta = delta + 1, balance_after = balance_after + 1 WHERE account_id = 'transit:USD:clearing:0'",
        "entries transit:USD:clearing:0/|batches 0/",
    ),
)
