"""A migrated database for each test: made once as a template, then cloned, which costs a tenth of migrating it."""

import asyncio
import itertools
import os
import secrets as random_secrets
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from shared.database.migrate import ROLES, migrate_database
from shared.database.postgres import connect
from shared.runtime.ledger_secrets import LedgerSecrets
from tests.backends.servers import PostgresServer
from tests.builders import SECRET

STATEMENT_MAX_S = 30


@dataclass(frozen=True, slots=True)
class Database:
    """One test's own ledger. `owner` may do everything, each other DSN what that service may."""

    name: str
    owner: str
    gateway: str
    worker: str
    poller: str
    distributor: str
    verify: str
    partitions: int


@dataclass(slots=True)
class Databases:
    """Templates by number of partitions, and the clones made of them."""

    server: PostgresServer
    password: str = field(default_factory=lambda: random_secrets.token_hex(16))
    templates: dict[int, str] = field(default_factory=dict[int, str])
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @contextmanager
    def clone(self, partitions: int = 4) -> Generator[Database]:
        """A fresh database; it is dropped afterwards, whoever is still connected."""
        template = self.templates.get(partitions) or self.make_template(partitions)
        name = f"tellerline_{os.getpid()}_{next(self.numbers)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        try:
            dsns = {role: self.server.dsn(name, role=role, password=self.password) for role in ROLES}
            yield Database(name=name, owner=self.server.dsn(name), partitions=partitions, **dsns)
        finally:
            self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def make_template(self, partitions: int) -> str:
        """Migrates as an operator would, with the owner's DSN."""
        name = f"tellerline_template_{os.getpid()}_p{partitions}"
        self.execute(f'CREATE DATABASE "{name}"')
        passwords: dict[str, str] = dict.fromkeys(ROLES, self.password)
        secrets = LedgerSecrets(SECRET, SECRET)
        migrated = migrate_database(self.server.dsn(name), partitions=partitions, passwords=passwords, secrets=secrets)
        asyncio.run(migrated)
        self.templates[partitions] = name
        return name

    def execute(self, statement: str) -> None:
        """One statement outside a transaction, as owner."""

        async def run() -> None:
            connection = await connect(
                self.server.dsn("postgres"), application="tests", command_timeout_s=STATEMENT_MAX_S
            )
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(run())
