"""Each layer runs alone: `pytest tests/unit` needs no server; servers start when the first test asks for one.

Fixtures: `postgres` and `rabbitmq` (servers of this run), `databases` (a factory), `database` (one test's
own clone), `vhost` (an empty virtual host, as a URL), `broker` (one with the topology of four partitions).
"""

import asyncio
import functools
import inspect
import itertools
import os
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import ParamSpec

import hypothesis
import pytest
import uvloop
from xdist.remote import Producer  # pyright: ignore[reportMissingTypeStubs] - it has none
from xdist.scheduler import LoadScopeScheduling  # pyright: ignore[reportMissingTypeStubs] - it has none

from shared.broker import declare
from tests.backends import Backend, backend, chosen
from tests.backends.databases import Database, Databases
from tests.backends.servers import PostgresServer, RabbitServer

P = ParamSpec("P")

LAYERS = ("unit", "property", "contract", "integration", "system")
TIMEOUT_S = {"contract": 120, "integration": 120, "system": 300}

hypothesis.settings.register_profile("quick", deadline=None, print_blob=True)
hypothesis.settings.register_profile(
    "long", deadline=None, print_blob=True, max_examples=5_000, stateful_step_count=100
)


def pytest_configure() -> None:
    hypothesis.settings.load_profile(os.environ.get("TEST_PROFILE", "quick"))


def pytest_report_header() -> str:
    try:
        name, why = chosen()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    return f"backend: {name} ({why})"


def layer_of(item: pytest.Item) -> str:
    """The folder under tests/; what lies beside the folders is as quick as a unit test."""
    return layer_at(item.nodeid)


def layer_at(node: str) -> str:
    """The layer of the test with this node id, such as `tests/unit/test_x.py::test_y`."""
    folder = node.split("/")[1] if node.count("/") > 1 else "unit"
    return folder if folder in LAYERS else "unit"


def limit_of(item: pytest.Item) -> float:
    """Seconds that its body may take."""
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0] if marker else item.config.getini("timeout"))


def within(test: Callable[P, Coroutine[None, None, None]], limit_s: float) -> Callable[P, Coroutine[None, None, None]]:
    """The limit for a test that runs in uvloop, which drops what the signal of pytest-timeout raises."""

    @functools.wraps(test)
    async def limited(*args: P.args, **kwargs: P.kwargs) -> None:
        async with asyncio.timeout(limit_s):
            await test(*args, **kwargs)

    return limited


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test with its layer; the quick layers come first."""
    for item in items:
        layer = layer_of(item)
        item.add_marker(layer)
        if layer in TIMEOUT_S and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S[layer]))
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.obj = within(item.obj, limit_of(item))
    # The longest group first, when somebody else does the others meanwhile.
    order = ("system", *LAYERS) if os.environ.get("PYTEST_XDIST_WORKER") else LAYERS
    items.sort(key=lambda item: order.index(layer_of(item)))


class FilesApart(LoadScopeScheduling):
    """With `-n 2`, each process has servers of its own: one takes the system tests, the other the rest, file by file.

    The marks of `--dist loadgroup` would say the same, but pytest-xdist 3.8 does not see them under pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "system" if layer_at(nodeid) == "system" else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return FilesApart(config, log)


SECONDS_OF: dict[str, float] = dict.fromkeys(LAYERS, 0.0)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Adds up where the time goes; the start of a server counts for the layer that first asked for it."""
    SECONDS_OF[layer_at(report.nodeid)] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    spent = ", ".join(f"{layer} {seconds:.0f} s" for layer, seconds in SECONDS_OF.items() if seconds)
    terminalreporter.write_line(f"time of each layer: {spent}")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of production."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def servers() -> Backend:
    return backend(chosen()[0])


@pytest.fixture(scope="session")
def postgres(servers: Backend) -> Iterator[PostgresServer]:
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq(servers: Backend) -> Iterator[RabbitServer]:
    with servers.rabbitmq() as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgres: PostgresServer) -> Databases:
    return Databases(postgres)


@pytest.fixture
def database(databases: Databases) -> Iterator[Database]:
    """A migrated ledger of four partitions; `databases.clone(partitions)` gives others."""
    with databases.clone() as database:
        yield database


VHOSTS = itertools.count()


@pytest.fixture
def vhost(rabbitmq: RabbitServer) -> Iterator[str]:
    """The AMQP URL of an empty virtual host: no exchange, no queue."""
    name = f"test-{os.getpid()}-{next(VHOSTS)}"
    rabbitmq.make_vhost(name)
    yield rabbitmq.amqp_url(name)
    rabbitmq.drop_vhost(name)


@pytest.fixture
def broker(vhost: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The AMQP URL of a virtual host that has the topology of four partitions."""
    # The wait is for brokers that are killed right after; this one belongs to the whole run.
    monkeypatch.setattr(declare, "SETTLE_AFTER_DECLARE_S", 0.0)
    asyncio.run(declare.declare_topology(vhost, partitions=4))
    return vhost
