"""Outcomes of repeats are read from the journal for many at once, each as its reader may see it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
import pytest

from services.gateway.store import database as store
from services.gateway.store.outcomes import OutcomeReads
from services.gateway.store.transactions import Reader, read_transaction
from shared.database import postgres
from tests.backends.databases import Database
from tests.builders import Commands, account_in
from tests.journal_writer import JournalWriter

WITHIN_S = 5.0


@dataclass(eq=False)
class Counted(store.Database):
    """Counts statements."""

    pool: postgres.Pool
    statements: int = 0

    def __post_init__(self) -> None:
        super().__init__(self.pool)

    async def rows(self, statement: str, *arguments: object, within_s: float = WITHIN_S) -> Sequence[asyncpg.Record]:
        self.statements += 1
        return await super().rows(statement, *arguments, within_s=within_s)


async def test_outcomes_that_are_asked_for_at_once_are_read_together_and_as_each_reader_may_see_them(
    database: Database,
) -> None:
    make, alice, carol = Commands(), account_in(0), account_in(1)
    sent, undecided = [make.transfer(alice, carol, 1) for _ in range(40)], make.transfer(alice, carol, 1)
    async with (
        JournalWriter(database) as writer,
        await postgres.open_pool(database.gateway, application="tests") as pool,
        asyncio.TaskGroup() as group,
    ):
        await writer.write(make.open(alice), make.open(carol))
        await writer.write(make.deposit(alice, 100))
        await writer.write(*sent)
        await writer.settle()
        counted, readers = Counted(pool), (Reader(make.principal, admin=False), Reader("eve", admin=False))
        reads = OutcomeReads(counted)
        running = group.create_task(reads.run())
        wanted = [(reader, each.id) for reader in readers for each in (*sent, undecided)]
        found = await asyncio.gather(*(reads.find(*each, WITHIN_S) for each in wanted))
        assert counted.statements == 1
        for (reader, identity), outcome in zip(wanted, found, strict=True):
            if identity == undecided.id:
                assert outcome is None
                continue
            assert outcome is not None
            assert outcome.transaction is not None
            assert outcome.operation.fingerprint == sent[0].fingerprint
            own = await read_transaction(counted, readers[0], identity)
            assert own is not None
            assert own.balances
            assert outcome.transaction.balances == (own.balances if reader is readers[0] else {})
            assert outcome.transaction.recorded_at_us == own.recorded_at_us
        running.cancel()


async def test_a_database_that_is_away_is_said_to_be_and_the_next_outcome_is_read_again(database: Database) -> None:
    reader, identity = Reader("eve", admin=False), Commands().transfer(account_in(0), account_in(1), 1).id
    async with (
        await postgres.open_pool(database.gateway, application="tests", size_max=1) as pool,
        asyncio.TaskGroup() as group,
    ):
        reads = OutcomeReads(store.Database(pool))
        running = group.create_task(reads.run())
        async with pool.acquire():  # the only connection
            with pytest.raises(store.DatabaseUnavailable):
                await reads.find(reader, identity, WITHIN_S)
        assert await reads.find(reader, identity, WITHIN_S) is None
        running.cancel()
