"""Where a command finds the database and the broker: from the options, else the environment, else the running stack."""

import os
from pathlib import Path

import click

from shared.runtime.settings import PREFIX, SettingsError, read_secret_files
from tellerline.local_stack.supervisor.data_dir import DataDir

DATABASE_URL = f"{PREFIX}DATABASE_URL"
AMQP_URL = f"{PREFIX}AMQP_URL"

database_option = click.option(
    "--database-url", metavar="DSN", help=f"Where the ledger is; else ${DATABASE_URL}, else the running stack's."
)


def database_url(given: str | None, data_dir: Path) -> str:
    """The DSN of the ledger's database. Raises SettingsError when there is none."""
    return given or _found(DATABASE_URL, "postgres", "--database-url", data_dir)


def amqp_url(given: str | None, data_dir: Path) -> str:
    """The broker's URL. Raises SettingsError when there is none."""
    return given or _found(AMQP_URL, "amqp", "--amqp-url", data_dir)


def _found(variable: str, server: str, option: str, data_dir: Path) -> str:
    read_secret_files()
    if value := os.environ.get(variable):
        return value
    stack = DataDir(data_dir)
    state = stack.read_state()
    if state is None or server not in state:
        raise SettingsError(f"nothing runs in {stack.path}; give {option} or set {variable}")
    return str(state[server])
