"""Checks before a service uses a database: the schema is known, commits are durable, the secrets are the ledger's."""

import asyncio
from typing import Final

import structlog

from shared.database import postgres
from shared.database.migrate import READ_PARTITIONS, check_schema
from shared.database.secret_fingerprints import check_secrets
from shared.runtime.ledger_secrets import LedgerSecrets
from shared.runtime.retry import backoff_s

log = structlog.get_logger()

DURABILITY = """
SELECT name, setting FROM pg_settings
 WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes') ORDER BY name
"""
UNSAFE: Final = "off"


class NotDurable(Exception):
    """The database could lose commits that it has acknowledged."""


async def unsafe_settings(connection: postgres.Connection) -> dict[str, str]:
    """The settings of this session that could lose an acknowledged commit: name → value. Empty if there is none."""
    rows = await connection.fetch(DURABILITY)
    return {str(row["name"]): str(row["setting"]) for row in rows if row["setting"] == UNSAFE}


async def check_database(dsn: str, secrets: LedgerSecrets, *, application: str) -> int:
    """Checks schema, secrets and durability; returns the number of partitions. Waits until the database answers.

    Raises MigrationError, PoolerRefused, SecretsRefused or NotDurable.
    """
    attempt = 0
    while True:
        try:
            return await _check(dsn, secrets, application)
        except postgres.TRANSIENT_FAULTS as fault:
            log.warning("database.unavailable", fault=repr(fault), attempt=attempt)
        await asyncio.sleep(backoff_s(attempt))
        attempt += 1


async def _check(dsn: str, secrets: LedgerSecrets, application: str) -> int:
    await postgres.check_sessions(dsn)
    connection = await postgres.connect(dsn, application=application)
    try:
        await check_schema(connection)
        await check_secrets(connection, secrets)
        unsafe = await unsafe_settings(connection)
        if unsafe:
            raise NotDurable(f"refusing to serve: {unsafe}")
        return int(await connection.fetchval(READ_PARTITIONS))
    finally:
        await connection.close()
