"""A broker of the test's own, which is killed, or told to lose patience with its consumers."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.broker.declare import declare_topology
from tellerline.local_stack.servers import PrivateRabbit
from tellerline.local_stack.servers.rabbit import PROGRAMS
from tests.backends.databases import Database
from tests.backends.local import folder
from tests.contract.conditions import eventually
from tests.integration.ledger_scenes import MAKE, funded, posted_once
from tests.integration.worker import Ledger, ledger_of

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(not PROGRAMS.exists(), reason="no RabbitMQ is installed"),
]
# Longer than any test: nothing here may be the effect of a lease that has run out.
LONG_LEASES = {"TELLERLINE_LEASE_TTL_S": "600", "TELLERLINE_LEASE_RENEW_S": "2"}
DECIDED_AFTER_KILL_S_MAX = 5.0
DECIDED_AFTER_OUTAGE_S_MAX = 15.0
# As if 30 minutes were 2 seconds, and looked for every half second.
IMPATIENT = "[application:set_env(rabbit, K, V) || {K, V} <- [{consumer_timeout, 2000}, {channel_tick_interval, 500}]]."
CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'ledger_worker %'
"""


@asynccontextmanager
async def private_ledger(
    database: Database, logs: Path, *, setting: str = ""
) -> AsyncGenerator[tuple[Ledger, PrivateRabbit]]:
    """A ledger on a node of its own. `setting`: an Erlang expression that the node evaluates first."""
    with folder("rabbitmq") as place:
        node = PrivateRabbit(place)
        url = await node.start()
        try:
            if setting:
                control = [PROGRAMS / "rabbitmqctl", "eval", setting]
                await asyncio.to_thread(subprocess.run, control, env=node.environment(), cwd=place, check=True)
            await declare_topology(url, partitions=database.partitions)
            async with ledger_of(database, url, logs) as ledger:
                yield ledger, node
        finally:
            await node.stop()


async def test_after_a_killed_broker_accepts_connections_commands_are_decided_within_seconds(
    database: Database, tmp_path: Path
) -> None:
    async with private_ledger(database, tmp_path) as (ledger, node):
        alice, bob = await funded(ledger, 0, 1)
        await ledger.start(**LONG_LEASES).ready()
        before = [MAKE.transfer(alice, bob, 1) for _ in range(20)]
        await ledger.call(*before)
        os.kill(node.pids["rabbitmq"], signal.SIGKILL)
        await node.ended()
        await node.start()
        began_s = time.monotonic()
        assert await ledger.client.connected(DECIDED_AFTER_KILL_S_MAX)
        transfer = MAKE.transfer(alice, bob, 1)
        await ledger.call(transfer)
        assert time.monotonic() - began_s <= DECIDED_AFTER_KILL_S_MAX
        await posted_once(ledger, transfer, *before)


async def test_deliveries_that_the_broker_takes_back_during_an_outage_of_the_database_are_decided_once(
    database: Database, tmp_path: Path
) -> None:
    async with private_ledger(database, tmp_path, setting=IMPATIENT) as (ledger, _):
        alice, bob = await funded(ledger, 0, 1)
        worker = await ledger.start(**LONG_LEASES).ready()
        await ledger.call(MAKE.transfer(alice, bob, 1))
        # The ledger's own connection of the test stays writable: what is changed is for new sessions.
        await ledger.connection.execute(f'ALTER DATABASE "{database.name}" SET default_transaction_read_only = on')
        await ledger.connection.execute(CUT)
        consumed = worker.text().count("partition.consuming")
        transfers = [MAKE.transfer(alice, bob, 1), MAKE.transfer(bob, alice, 1)]
        sent = [ledger.send(transfer) for transfer in transfers]
        await eventually(lambda: worker.text().count("partition.consuming") >= consumed + 4, 60)
        await ledger.connection.execute(f'ALTER DATABASE "{database.name}" RESET default_transaction_read_only')
        began_s = time.monotonic()
        for each in sent:
            assert (await ledger.result(each)).outcome.status == "posted"
        assert time.monotonic() - began_s <= DECIDED_AFTER_OUTAGE_S_MAX
        connected = [line for line in worker.text().splitlines() if "broker.connected" in line and ".consume" in line]
        assert len(connected) == 1, "a channel that the broker closes costs the others nothing"
        await posted_once(ledger, *transfers)
