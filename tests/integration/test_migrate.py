"""`tellerline migrate` makes the partitions of a new ledger, and touches none that has another number of them."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from shared.database.migrate import read_partitions
from shared.database.postgres import connect
from tests.backends.databases import Database, Databases
from tests.builders import SECRET
from tests.integration.gateway import variables

EMPTY = "tellerline_empty"


@pytest.fixture
def empty(databases: Databases) -> Iterator[str]:
    """The owner's DSN of a database without any table."""
    databases.execute(f'CREATE DATABASE "{EMPTY}"')
    yield databases.server.dsn(EMPTY)
    databases.execute(f'DROP DATABASE "{EMPTY}" WITH (FORCE)')


def migrate(dsn: str, **settings: str) -> tuple[int, list[str]]:
    """The command line as a shell runs it, settings in lower case: exit code, lines of standard error."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TELLERLINE_")}
    own = {"database_url": dsn, "log_level": "warning", "secret": SECRET, **settings}
    ended = subprocess.run(
        [sys.executable, "-m", "tellerline", "migrate"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment | variables(own),
    )
    return ended.returncode, ended.stderr.splitlines()


def held(dsn: str) -> int | None:
    return asyncio.run(read_partitions(dsn))


@pytest.mark.parametrize(("asked", "made"), [({}, 1), ({"partitions": "5"}, 5)])
def test_a_new_ledger_gets_what_is_asked_for_else_one_partition(empty: str, asked: dict[str, str], made: int) -> None:
    assert held(empty) is None
    assert migrate(empty, **asked) == (0, [])
    assert held(empty) == made


def test_an_existing_ledger_keeps_its_number(database: Database) -> None:
    assert migrate(database.owner) == (0, [])
    assert migrate(database.owner, partitions="4") == (0, [])
    assert held(database.owner) == 4


def test_another_number_is_refused_and_nothing_is_touched(database: Database) -> None:
    code, told = migrate(database.owner, partitions="3", role_password_gateway="another")
    refusal = "tellerline migrate: the ledger has 4 partitions, not 3: the number is fixed when it is created"
    assert (code, told) == (2, [refusal])
    assert held(database.owner) == 4

    async def gateway_still_has_its_password() -> None:
        await (await connect(database.gateway, application="tests")).close()

    asyncio.run(gateway_still_has_its_password())
