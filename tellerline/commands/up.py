"""`tellerline up`: the whole stack on this machine, in the foreground or detached."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from shared.domain.ids import PARTITIONS_MAX
from tellerline.local_stack.servers import StartFailed
from tellerline.local_stack.supervisor.data_dir import DataDir
from tellerline.local_stack.supervisor.detached import start_detached
from tellerline.local_stack.supervisor.plan import Options
from tellerline.local_stack.supervisor.run import Supervisor
from tellerline.stack_options import (
    checked_admin_key,
    data_dir_option,
    json_option,
    say,
    secrets_option,
    show,
    without_secrets,
)

REFUSED = 2
PARTITIONS = "TELLERLINE_PARTITIONS"
PORT_MAX = 65_535
COPIES_MAX = 64


def checked_partitions(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    """The number of partitions. Ends the process with one line of text when it is not allowed."""
    if value is None:
        return None
    if value.isdecimal() and 1 <= int(value) <= PARTITIONS_MAX:
        return int(value)
    say(f"tellerline up: --partitions (or {PARTITIONS}) is a number from 1 to {PARTITIONS_MAX}, not {value!r}")
    sys.exit(REFUSED)


@click.command("up")
@data_dir_option
@click.option(
    "--port",
    type=click.IntRange(0, PORT_MAX),
    default=8080,
    show_default=True,
    help="The first gateway's; 0 is a free one, the same at each start.",
)
@click.option("--workers", type=click.IntRange(1, COPIES_MAX), default=1, show_default=True, help="Ledger workers.")
@click.option(
    "--partitions",
    metavar="N",
    envvar=PARTITIONS,
    callback=checked_partitions,
    help=f"1 to {PARTITIONS_MAX}, fixed when the ledger is created; else one for each worker.",
)
@click.option("--gateways", type=click.IntRange(1, COPIES_MAX), default=1, show_default=True, help="Gateways.")
@click.option(
    "--admin-key",
    envvar="TELLERLINE_ADMIN_KEY",
    callback=checked_admin_key,
    help="Better by TELLERLINE_ADMIN_KEY or TELLERLINE_ADMIN_KEY_FILE. It is kept; without one a key is made.",
)
@click.option("--detach", is_flag=True, help="Return when ready; 'tellerline down' stops it.")
@json_option
@secrets_option
def command(  # noqa: PLR0913 - one for each option
    *,
    data_dir: Path,
    port: int,
    workers: int,
    partitions: int | None,
    gateways: int,
    admin_key: str | None,
    detach: bool,
    as_json: bool,
    with_secrets: bool,
) -> None:
    """Run PostgreSQL, RabbitMQ, the Jobcoin network and all services.

    Prints the admin key, too; with --json only if --secrets is given.
    """
    stack, options = DataDir(data_dir), Options(port, workers, gateways, admin_key, partitions)
    how_to_stop = f"'tellerline down --data-dir {data_dir}'" if detach else "Ctrl-C"

    def ready(state: Mapping[str, object]) -> None:
        say(f"Tellerline is up; {how_to_stop} stops it.")
        show(state if with_secrets or not as_json else without_secrets(state), as_json=as_json)

    try:
        stack.prepare()
        if detach:
            ready(start_detached(options, stack, say))
        else:
            with stack.locked():
                asyncio.run(Supervisor(options, stack, say, ready).run(asyncio.Event()))
    except StartFailed as failure:
        say(f"tellerline up: {failure}")
        sys.exit(failure.exit_code)
