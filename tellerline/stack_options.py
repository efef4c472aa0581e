"""Options and output that several commands share."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

import click

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".data"),
    show_default=True,
    help="Where the stack keeps everything.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def say(text: str) -> None:
    """Prints a line for the user to standard error; standard output is for what programs read."""
    with contextlib.suppress(OSError):  # the terminal may be gone, what it watched goes on
        click.echo(text, err=True)


def show(state: Mapping[str, object], *, as_json: bool) -> None:
    """Prints addresses, admin key and folders of a running stack, or the whole state as JSON."""
    if as_json:
        click.echo(json.dumps(state, indent=2))
        return
    folder = Path(str(state["data_dir"]))
    rows = {
        "gateway": state.get("gateway"),
        "docs": f"{state['gateway']}/docs" if state.get("gateway") else None,
        "jobcoin": state.get("jobcoin"),
        "admin key": state.get("admin_key"),
        "kept in": folder / "admin_key",
        "logs in": folder / "log",
    }
    for name, value in rows.items():
        if value is not None:
            click.echo(f"  {name:<10} {value}")
