"""Fixtures: one ledger for all tests that only use its API, each with accounts of its own; and ledgers of their own."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.backends.databases import Database, Databases
from tests.backends.servers import RabbitServer
from tests.integration.gateway import Client, Stack, stack
from tests.integration.mixer_stage import Stage, stage
from tests.integration.worker import Ledger, ledger_of

NAMES = itertools.count()


@dataclass(frozen=True, slots=True)
class Served:
    """The stack, and a client of its gateway with the admin key."""

    stack: Stack
    client: Client


@pytest.fixture(scope="session")
def served(databases: Databases, rabbitmq: RabbitServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    rabbitmq.make_vhost("gateway")
    folder = tmp_path_factory.mktemp("gateway")
    with databases.clone() as database, stack(database, rabbitmq.amqp_url("gateway"), folder) as running:
        running.worker()
        yield Served(running, running.gateway())
    rabbitmq.drop_vhost("gateway")


@pytest.fixture
def api(served: Served) -> Client:
    return served.client


@pytest.fixture
def name() -> Callable[[str], str]:
    """Names that no other test uses."""
    return lambda what: f"{what}-{next(NAMES)}"


@pytest.fixture
async def ledger(database: Database, broker: str, tmp_path: Path) -> AsyncIterator[Ledger]:
    async with ledger_of(database, broker, tmp_path) as ledger:
        yield ledger


@pytest.fixture
def mixer(database: Database, broker: str, tmp_path: Path) -> Iterator[Stage]:
    """A worker and the network run; the test starts the services of the mixer."""
    with stage(database, broker, tmp_path) as opened:
        yield opened
