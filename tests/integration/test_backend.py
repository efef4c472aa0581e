"""The rooms that tests are given are real, empty and their own."""

import aiormq
import pytest
from aiormq.exceptions import ChannelNotFoundEntity

from shared.db import connect
from shared.topology import PARTITION_QUEUE_ARGUMENTS
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
