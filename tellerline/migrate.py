"""`tellerline migrate`: `python -m shared.migrate`, told where the running stack's servers are."""

import os
import sys
from pathlib import Path

import click

from tellerline.stack_options import data_dir_option
from tellerline.supervisor.data_dir import DataDir
from tellerline.supervisor.plan import migrate_environment
from tellerline.supervisor.run import MIGRATE
from tellerline.supervisor.service import program

DATABASE_URL = "TELLERLINE_DATABASE_URL"


@click.command("migrate")
@data_dir_option
def command(*, data_dir: Path) -> None:
    """Bring schema and broker topology to this version.

    Uses TELLERLINE_DATABASE_URL (the owner's) and TELLERLINE_AMQP_URL, or else the stack that runs from the data dir.
    """
    environment = dict(os.environ)
    if DATABASE_URL not in environment and f"{DATABASE_URL}_FILE" not in environment:
        stack = DataDir(data_dir)
        state = stack.read_state()
        if state is None or "postgres" not in state:
            raise click.ClickException(f"nothing runs in {stack.path}, and {DATABASE_URL} is not set")
        environment |= migrate_environment(stack, str(state["postgres"]), str(state["amqp"]))
    os.execve(sys.executable, program(MIGRATE), environment)  # noqa: S606 - becomes the program itself
