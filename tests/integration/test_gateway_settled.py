"""What the gateway says of a credit to another partition, before and after it has landed."""

from services.gateway.store import database as store
from services.gateway.store.transactions import Reader, TransactionFacts, read_transaction
from shared.database import postgres
from tests.backends.databases import Database
from tests.builders import Commands, account_in
from tests.journal_writer import JournalWriter


async def test_a_transaction_is_settled_once_its_credit_has_landed(database: Database) -> None:
    make, alice, carol = Commands(), account_in(0), account_in(1)
    sent = make.transfer(alice, carol, 37)
    async with (
        JournalWriter(database) as writer,
        await postgres.open_pool(database.gateway, application="tests") as pool,
    ):

        async def read() -> TransactionFacts:
            reader = Reader(make.principal, admin=False)
            found = await read_transaction(store.Database(pool), reader, sent.id)
            assert found is not None
            return found

        await writer.write(make.open(alice), make.open(carol))
        await writer.write(make.deposit(alice, 100))
        await writer.write(sent)
        before = await read()
        assert (before.settled, before.balances) == (False, {alice: 63})
        await writer.settle()
        after = await read()
        assert (after.settled, after.balances) == (True, {alice: 63, carol: 37})
