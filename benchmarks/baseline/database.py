"""Makes the baseline's database, on the ledger's server, with accounts that hold funds."""

import hashlib
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from shared.database.postgres import connect

SCHEMA: Final = Path(__file__).with_name("schema.sql")
DATABASE: Final = "tellerline_baseline"
STATEMENT_TIMEOUT_S: Final = 120.0

OPEN_ACCOUNTS: Final = """
INSERT INTO baseline.accounts (id, asset, owner, balance, seq)
SELECT id, $2, $3, $4::text::numeric, 1 FROM unnest($1::text[]) AS id
"""
FUND_ACCOUNTS: Final = """
INSERT INTO baseline.entries (account_id, seq, transaction_id, delta, balance_after)
SELECT id, 1, gen_random_uuid(), balance, balance FROM baseline.accounts
"""
ANALYZED: Final = ("accounts", "transactions", "entries")


async def make_database(
    owner_dsn: str, *, accounts: list[str], asset: str, scale: int, funds: int, admin_key: str
) -> str:
    """Makes the database anew, with `funds` minor units on each account; its DSN."""
    server = await connect(owner_dsn, application="bench", command_timeout_s=STATEMENT_TIMEOUT_S)
    try:
        await server.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        await server.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await server.close()
    dsn = urlunsplit(urlsplit(owner_dsn)._replace(path=f"/{DATABASE}"))
    connection = await connect(dsn, application="bench", command_timeout_s=STATEMENT_TIMEOUT_S)
    try:
        await connection.execute(SCHEMA.read_text(encoding="utf-8"))
        await connection.execute("INSERT INTO baseline.assets VALUES ($1, $2)", asset, scale)
        digest = hashlib.sha256(admin_key.encode()).digest()
        await connection.execute("INSERT INTO baseline.keys VALUES ($1, 'admin', true)", digest)
        await connection.execute(OPEN_ACCOUNTS, accounts, asset, "admin", str(funds))
        await connection.execute(FUND_ACCOUNTS)
        for table in ANALYZED:
            await connection.execute(f"VACUUM ANALYZE baseline.{table}")
    finally:
        await connection.close()
    return dsn


SUM: Final = "SELECT coalesce(sum(balance), 0)::text FROM baseline.accounts"
TRANSFERS: Final = "SELECT count(*) FROM baseline.transactions WHERE code IS NULL"


async def read_totals(dsn: str) -> tuple[int, int]:
    """Minor units over all accounts, and the transfers that were posted."""
    connection = await connect(dsn, application="bench", command_timeout_s=STATEMENT_TIMEOUT_S)
    try:
        return int(await connection.fetchval(SUM)), int(await connection.fetchval(TRANSFERS))
    finally:
        await connection.close()
