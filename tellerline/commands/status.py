"""`tellerline status`: what runs from this data dir now."""

import json
import sys
from pathlib import Path
from typing import cast

import click

from tellerline.local_stack.supervisor.data_dir import DataDir
from tellerline.local_stack.supervisor.run import leftovers
from tellerline.stack_options import data_dir_option, json_option, say, show


@click.command("status")
@data_dir_option
@json_option
def command(*, data_dir: Path, as_json: bool) -> None:
    """Show a running stack. Exit code 1 when none runs."""
    stack = DataDir(data_dir)
    state = stack.read_state()
    if state is None:
        click.echo(json.dumps({"status": "stopped", "pids": {}}) if as_json else f"nothing runs in {stack.path}")
        if left := leftovers(stack):
            say(f"but {left} processes that a killed supervisor left behind: 'tellerline down' stops them")
        sys.exit(1)
    if not as_json:
        click.echo(f"Tellerline is {state['status']}.")
    show(state, as_json=as_json)
    if not as_json:
        for name, pid in cast("dict[str, int]", state["pids"]).items():
            click.echo(f"  {name:<18} pid {pid}")
