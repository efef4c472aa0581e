"""Connections of a pool go from hand to hand."""

from shared.database import postgres
from tests.backends.databases import Database


async def test_a_connection_goes_back_without_a_round_trip_of_its_own(database: Database) -> None:
    async with await postgres.open_pool(database.gateway, application="tests", size_max=1) as pool:
        async with pool.acquire() as connection:
            # asyncpg's own reset would undo this, and is what each read would have to pay for.
            await connection.execute("SET work_mem = '1MB'")
        async with pool.acquire() as connection:
            assert await connection.fetchval("SHOW work_mem") == "1MB"


async def test_a_transaction_that_was_left_open_is_rolled_back(database: Database) -> None:
    async with await postgres.open_pool(database.gateway, application="tests", size_max=1) as pool:
        async with pool.acquire() as connection:
            await connection.execute("BEGIN")
        async with pool.acquire() as connection:
            assert not connection.is_in_transaction()
