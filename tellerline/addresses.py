"""Where a command finds the database: from the options, else the environment, else the running stack."""

import os
from pathlib import Path

import click

from shared.runtime.settings import PREFIX, SettingsError, read_secret_files
from tellerline.local_stack.supervisor.data_dir import DataDir

DATABASE_URL = f"{PREFIX}DATABASE_URL"

database_option = click.option(
    "--database-url", metavar="DSN", help=f"Where the ledger is; else ${DATABASE_URL}, else the running stack's."
)


def database_url(given: str | None, data_dir: Path) -> str:
    """The DSN of the ledger's database. Raises SettingsError when there is none."""
    read_secret_files()
    if value := given or os.environ.get(DATABASE_URL):
        return value
    stack = DataDir(data_dir)
    state = stack.read_state()
    if state is None or "postgres" not in state:
        raise SettingsError(f"nothing runs in {stack.path}; give --database-url or set {DATABASE_URL}")
    return str(state["postgres"])
