"""The rooms that tests are given are real, empty and their own."""

import aiormq
import pytest
from aiormq.exceptions import ChannelNotFoundEntity

from shared.database.migrate import check_schema
from shared.database.postgres import connect
from shared.domain.ids import Partition
from shared.messages.topology import PARTITION_QUEUE_ARGUMENTS, partition_queue
from tests.backends.databases import Database
from tests.backends.servers import PostgresServer


async def test_postgres_is_as_durable_as_in_production(postgres: PostgresServer) -> None:
    connection = await connect(postgres.dsn("postgres"), application="tests")
    try:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await connection.fetchval(f"SHOW {setting}") == "on"
        assert int(await connection.fetchval("SHOW server_version_num")) >= 150_000
    finally:
        await connection.close()


@pytest.mark.parametrize("_again", range(2))
async def test_a_virtual_host_is_empty_and_takes_the_queues_of_production(vhost: str, _again: int) -> None:
    connection = await aiormq.connect(vhost)
    try:
        channel = await connection.channel()
        with pytest.raises(ChannelNotFoundEntity):
            await channel.queue_declare("ledger.cmd.v1.p00", passive=True)
        channel = await connection.channel()
        declared = await channel.queue_declare(
            "ledger.cmd.v1.p00", durable=True, arguments=dict(PARTITION_QUEUE_ARGUMENTS)
        )
        assert declared.message_count == 0
    finally:
        await connection.close()


async def test_each_test_has_a_migrated_ledger_of_its_own(database: Database) -> None:
    for role in ("gateway", "worker", "poller", "distributor", "verify"):
        connection = await connect(getattr(database, role), application="tests")
        try:
            assert await connection.fetchval("SELECT current_user") == f"tellerline_{role}"
            await check_schema(connection)
        finally:
            await connection.close()


async def test_each_test_has_a_broker_with_the_topology(broker: str, database: Database) -> None:
    connection = await aiormq.connect(broker)
    try:
        channel = await connection.channel()
        for partition in range(database.partitions):
            declared = await channel.queue_declare(partition_queue(Partition(partition)), passive=True)
            assert declared.message_count == 0
    finally:
        await connection.close()
