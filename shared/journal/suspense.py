"""Amounts that the ledger itself put on a suspense account, and how an operator's decision about one is recorded.

A credit that can land nowhere else is entered on `suspense:<asset>:<partition>`: a whole transit row that could not be
taken in (its entry has no operation), or one return. The entry's key names the item. It is resolved by a posted
operation that debits exactly its amount from that account and names the item as its reference.
"""

from typing import Final

_COLUMNS: Final = """
SELECT e.account_id, e.seq, e.asset, e.delta AS amount, e.operation_id::text, b.recorded_at,
       r.id::text AS resolved_by
"""
# What the ledger itself put there, of the entries `e`; and the operation that moved each on.
_ITEMS: Final = """
  LEFT JOIN ledger.batches b ON b.partition = e.partition AND b.batch = e.batch
  LEFT JOIN LATERAL (SELECT kind FROM ledger.operations WHERE id = e.operation_id OFFSET 0) AS o ON true
  LEFT JOIN LATERAL (
       SELECT o.id
         FROM ledger.listed l CROSS JOIN unnest(l.operations) AS u (id) JOIN ledger.operations o ON o.id = u.id
        WHERE l.list = 'ledger' AND l.reference = e.account_id || ':' || e.seq
          AND o.reference = e.account_id || ':' || e.seq AND o.outcome = 'posted'
          AND starts_with(o.postings, '[["' || e.account_id || '","')
          AND right(o.postings, length(e.delta || e.asset) + 9) = '","' || e.delta || '","' || e.asset || '"]]'
        LIMIT 1) AS r ON true
 WHERE (e.operation_id IS NULL OR o.kind = 'return.v1')
"""
_ENTRY: Final = """
       SELECT account_id COLLATE "C" AS account_id, seq, asset, delta::numeric, operation_id, partition, batch
         FROM ledger.entries
"""

# One item: account, seq, asset, amount in minor units, operation, recorded_at, resolved_by (an operation). Parameters:
# account and seq.
READ_SUSPENSE_ITEM: Final = f"""{_COLUMNS}
  FROM ({_ENTRY} WHERE account_id = $1::text AND seq = $2::bigint AND delta > 0 OFFSET 0) AS e {_ITEMS}
"""

# Items after a key, by key. Parameters: account and seq of the last item before, whether resolved items are wanted, how
# many at most. Each account is read by its key from there on, whatever the planner thinks of its size (OFFSET 0).
READ_SUSPENSE: Final = f"""{_COLUMNS}
  FROM ledger.assets s
 CROSS JOIN generate_series(0, (SELECT partitions - 1 FROM ledger.constants)) AS p
 CROSS JOIN LATERAL (SELECT 'suspense:' || s.code || ':' || p AS account) AS n
 CROSS JOIN LATERAL ({_ENTRY}
        WHERE n.account COLLATE "C" >= $1::text COLLATE "C" AND account_id = n.account
          AND seq > CASE n.account WHEN $1::text THEN $2::bigint ELSE 0 END AND delta > 0 ORDER BY seq OFFSET 0) AS e
 {_ITEMS}
   AND ($3::boolean OR r.id IS NULL)
 ORDER BY e.account_id, e.seq LIMIT $4
"""  # noqa: S608 - constants of this file


def item_key(account: str, seq: int) -> str:
    """The name of an item, and the reference of the operation that resolves it."""
    return f"{account}:{seq}"
