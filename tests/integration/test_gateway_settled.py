"""What the gateway says of credits of one batch to one partition: one landed with its debit, one is in transit."""

from services.gateway.store import database as store
from services.gateway.store.transactions import Reader, TransactionFacts, read_transaction
from shared import db
from tests.backends.databases import Database
from tests.builders import Commands, account_in
from tests.journal_writer import JournalWriter


async def test_each_of_them_is_settled_where_it_landed(database: Database) -> None:
    make, alice, carol = Commands(), account_in(0), account_in(1)
    cleared, sent = make.move(alice, carol, 31), make.move(alice, carol, 37)
    async with JournalWriter(database) as writer, await db.open_pool(database.gateway, application="tests") as pool:

        async def read(identity: str) -> TransactionFacts:
            reader = Reader(make.principal, admin=False, partitions=database.partitions)
            found = await read_transaction(store.Database(pool), reader, identity)
            assert found is not None
            return found

        await writer.write(make.open(alice), make.open(carol))
        await writer.write(make.deposit(alice, 100))
        writer.clears = True
        writer.decide(cleared)
        writer.clears = False
        writer.decide(sent)
        await writer.commit()
        first, second = await read(cleared.id), await read(sent.id)
        assert (first.settled, first.balances) == (True, {alice: 69, carol: 31})
        assert (second.settled, second.balances) == (False, {alice: 32})
        await writer.settle()
        assert await read(cleared.id) == first
        second = await read(sent.id)
        assert (second.settled, second.balances) == (True, {alice: 32, carol: 68})
