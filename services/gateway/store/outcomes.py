"""Outcomes that the journal may have already, as those of repeats: one query at a time, for all who wait for one."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import islice
from typing import Final

from services.gateway.store.database import Database, DatabaseUnavailable
from services.gateway.store.operations import RecordedOperation
from services.gateway.store.transactions import COLUMNS, EFFECTS, Reader, TransactionFacts, facts_of
from shared.domain.values import value

OUTCOMES_PER_QUERY_MAX: Final = 100
QUERY_S_MAX: Final = 1.0
OPERATION_FIELDS: Final = tuple(field.name for field in fields(RecordedOperation))


@value
class Asked:
    """A command that a reader asks for, who may see it."""

    reader: Reader
    command: str


@value
class RecordedOutcome:
    """`transaction`: what the command moved, if it was a posted transaction, as far as the reader may see it."""

    operation: RecordedOperation
    transaction: TransactionFacts | None


EFFECTS_FOR_READERS: Final = EFFECTS.replace("$1", "asked.is_admin").replace("$2", "asked.principal")
READ_RECORDED = f"""
SELECT {COLUMNS}, encode(o.fingerprint, 'hex') AS fingerprint, o.outcome, o.code, o.detail, asked.number
  FROM unnest($1::boolean[], $2::text[], $3::text[]) WITH ORDINALITY AS asked (is_admin, principal, id, number)
  JOIN ledger.operations o ON o.id = asked.id::uuid {EFFECTS_FOR_READERS}
 WHERE o.outcome <> 'started'
"""  # noqa: S608 - constants of this file and of its neighbour


async def read_recorded(database: Database, asked: Sequence[Asked]) -> Mapping[Asked, RecordedOutcome]:
    """The outcomes of those that have one. Raises DatabaseUnavailable."""
    readers = [each.reader for each in asked]
    columns = [each.admin for each in readers], [each.principal for each in readers], [each.command for each in asked]
    rows = await database.rows(READ_RECORDED, *columns, within_s=QUERY_S_MAX)
    found: dict[Asked, RecordedOutcome] = {}
    for row in rows:
        operation = RecordedOperation(**{name: row[name] for name in OPERATION_FIELDS})
        is_transaction = operation.outcome == "posted" and operation.postings is not None
        found[asked[row["number"] - 1]] = RecordedOutcome(operation, facts_of(row) if is_transaction else None)
    return found


class OutcomeReads:
    """While a query runs, further commands gather for the next one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[Asked, asyncio.Future[RecordedOutcome | DatabaseUnavailable | None]] = {}
        self._has_asked = asyncio.Event()

    async def find(self, reader: Reader, command: str, within_s: float) -> RecordedOutcome | None:
        """The outcome, if the journal has it. Raises DatabaseUnavailable, also after `within_s` seconds."""
        asked = Asked(reader, command)
        read = self._waiting.get(asked)
        if read is None:
            read = self._waiting[asked] = asyncio.get_running_loop().create_future()
            self._has_asked.set()
        done, _ = await asyncio.wait((read,), timeout=within_s)  # it goes on for others who wait for it
        found = read.result() if done else DatabaseUnavailable("no answer in time")
        if isinstance(found, DatabaseUnavailable):
            raise DatabaseUnavailable(str(found)) from found
        return found

    async def run(self) -> None:
        """Reads what is asked for, until cancelled."""
        while True:
            await self._has_asked.wait()
            batch = {asked: self._waiting.pop(asked) for asked in list(islice(self._waiting, OUTCOMES_PER_QUERY_MAX))}
            if not self._waiting:
                self._has_asked.clear()
            found: Mapping[Asked, RecordedOutcome] = {}
            fault: DatabaseUnavailable | None = None
            try:
                found = await read_recorded(self._database, list(batch))
            except DatabaseUnavailable as unavailable:
                fault = unavailable
            for asked, read in batch.items():
                read.set_result(found.get(asked, fault))
