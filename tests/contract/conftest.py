from collections.abc import AsyncIterator

import pytest

from services.ledger_worker.ports import Store
from tests.backends.databases import Database
from tests.contract.brokers import MemoryServer, RabbitServer, Server
from tests.contract.ledgers import Ledger, PostgresLedger, TwinLedger
from tests.contract.scribe import Scribe


@pytest.fixture(params=["twin", "one statement", "copy"])
def ledger_made(request: pytest.FixtureRequest) -> Ledger:
    if request.param == "twin":
        return TwinLedger()
    database: Database = request.getfixturevalue("database")
    return PostgresLedger(database, 0 if request.param == "copy" else 1_000_000)


@pytest.fixture
async def ledger(ledger_made: Ledger) -> AsyncIterator[Ledger]:
    yield ledger_made
    await ledger_made.close()


@pytest.fixture
async def store(ledger: Ledger) -> Store:
    return ledger.store("one")


@pytest.fixture
async def scribe(store: Store) -> Scribe:
    return await Scribe(store).begin()


@pytest.fixture(params=["twin", "rabbitmq"])
def server_made(request: pytest.FixtureRequest) -> Server:
    return MemoryServer() if request.param == "twin" else RabbitServer(request.getfixturevalue("broker"))


@pytest.fixture
async def server(server_made: Server) -> AsyncIterator[Server]:
    await server_made.open()
    yield server_made
    await server_made.close()
