"""What lies in suspense by design: findings for an operator, and no broken rules."""

from collections.abc import AsyncGenerator, Mapping
from typing import Final

from shared.database.postgres import Connection
from shared.journal.suspense import READ_SUSPENSE, item_key
from tellerline.verification.findings import SuspenseFinding

PAGE_ROWS: Final = 2_000


async def read_findings(connection: Connection, causes: Mapping[str, str]) -> AsyncGenerator[SuspenseFinding]:
    """Every amount that the ledger put on suspense, resolved or not. `causes`: key of an entry → why it is there."""
    last: tuple[str, int] = ("", 0)
    is_resolved_wanted = True
    while rows := await connection.fetch(READ_SUSPENSE, *last, is_resolved_wanted, PAGE_ROWS):
        for row in rows:
            last = (row["account_id"], row["seq"])
            key = item_key(*last)
            cause = causes.get(key) or f"the return {row['operation_id']} could not land"
            yield SuspenseFinding(key, int(row["amount"]), row["asset"], cause, row["resolved_by"])
