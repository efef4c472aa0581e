"""Operations: the outcome of a command as the journal holds it."""

from collections.abc import Sequence

from services.gateway.store.database import WITHIN_S, Database
from shared.domain.values import value
from shared.journal.rows import ANY_CONTENT_FINGERPRINT


@value
class RecordedOperation:
    """`outcome`: posted, rejected, or started (not decided yet). `recorded_at_us`: microseconds since 1970 UTC."""

    id: str
    kind: str
    principal: str
    fingerprint: str
    outcome: str
    code: str | None
    detail: str | None
    postings: str | None
    subject: str | None
    reference: str | None
    metadata: str | None
    recorded_at_us: int

    def has_content(self, fingerprint: str) -> bool:
        """Whether it is the outcome of a command with this fingerprint; a cancelled id is that of any content."""
        return self.fingerprint in {fingerprint, ANY_CONTENT_FINGERPRINT}


READ_OPERATION = """
SELECT o.kind, o.principal, encode(o.fingerprint, 'hex') AS fingerprint, o.outcome, o.code, o.detail, o.postings,
       o.subject, o.reference, o.metadata, ledger.us(b.recorded_at) AS recorded_at_us
  FROM ledger.operations o JOIN ledger.batches b ON b.partition = o.partition AND b.batch = o.batch
 WHERE o.id = $1::text::uuid
"""


async def read_operation(database: Database, operation: str, *, within_s: float = WITHIN_S) -> RecordedOperation | None:
    """The operation as journaled, or None. `operation` is the text of a UUID. Raises DatabaseUnavailable."""
    row = await database.row(READ_OPERATION, operation, within_s=within_s)
    return None if row is None else RecordedOperation(id=operation, **row)


@value
class CommandOutcome:
    """`code`: why it was rejected; None when it was posted. `recorded_at_us`: microseconds since 1970 UTC."""

    code: str | None
    recorded_at_us: int


READ_OUTCOMES = """
SELECT o.id::text, o.code, ledger.us(b.recorded_at) AS recorded_at_us
  FROM ledger.operations o JOIN ledger.batches b ON b.partition = o.partition AND b.batch = o.batch
 WHERE o.id = ANY($1::text[]::uuid[]) AND o.outcome <> 'started'
"""


async def read_outcomes(database: Database, operations: Sequence[str]) -> dict[str, CommandOutcome]:
    """Operation → outcome, of those that have one. Raises DatabaseUnavailable."""
    rows = await database.rows(READ_OUTCOMES, operations)
    return {row["id"]: CommandOutcome(row["code"], row["recorded_at_us"]) for row in rows}
