"""Stacks for system tests: one for each number of workers, driven over HTTP, hurt by signals, proven afterwards."""

from collections.abc import AsyncGenerator, Generator
from typing import cast

import pytest
import pytest_asyncio

from tests.system.client import Client, client_of, prove
from tests.system.load import ACCOUNTS, FUNDS
from tests.system.stack import Stack

# A third of the usual: whatever waits for a lease to expire waits a third as long, and a lease is lost more easily.
LEASES = {"TELLERLINE_LEASE_TTL_S": "3", "TELLERLINE_LEASE_RENEW_S": "0.6"}
# By workers: one that joins the first must get one.
PARTITIONS = {1: 2, 3: 4}


@pytest.fixture(scope="session", params=PARTITIONS, ids=["one_worker", "three_workers"])
def running_stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Stack]:
    """One stack for all tests with so many workers."""
    workers = cast("int", request.param)
    stack = Stack.up(
        tmp_path_factory.mktemp("stack"), workers=workers, partitions=PARTITIONS[workers], environment=LEASES
    )
    try:
        yield stack
    finally:
        stack.down()


@pytest.fixture
def stack(running_stack: Stack) -> Generator[Stack]:
    """The shared stack; whatever a test left stopped goes on afterwards."""
    running_stack.status()
    yield running_stack
    running_stack.resume_all()


@pytest_asyncio.fixture
async def client(stack: Stack) -> AsyncGenerator[Client]:
    """An admin's client. After the test, all that it was told must be in the journal, and the ledger sound."""
    async with client_of(stack) as client:
        yield client
        stack.resume_all()
        await prove(stack, client.told)


@pytest_asyncio.fixture
async def accounts(client: Client) -> list[str]:
    """Accounts with funds, spread over all partitions."""
    return await client.accounts(ACCOUNTS, funds=str(FUNDS))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the processes of its stack said last."""
    report = yield
    if report.failed and isinstance(item, pytest.Function) and isinstance(stack := item.funcargs.get("stack"), Stack):
        report.sections.append(("last lines of the stack's logs", stack.log_tails()))
    return report
