"""One ledger with a worker and a gateway for all tests that only use its API; each test brings accounts of its own."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.backends.databases import Databases
from tests.backends.servers import RabbitServer
from tests.integration.gateway import Client, Stack, stack

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
