"""Options and output that several commands share."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import click

from shared.domain.api_keys import KEY_RULE, KEY_TEXT

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".data"),
    show_default=True,
    help="Where the stack keeps everything.",
)


def checked_admin_key(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """The key, if a gateway would accept it. Raises click.BadParameter."""
    if value is None or KEY_TEXT.fullmatch(value):
        return value
    raise click.BadParameter(KEY_RULE)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
secrets_option = click.option(
    "--secrets", "with_secrets", is_flag=True, help="Show the admin key and the passwords in addresses, too."
)


def say(text: str) -> None:
    """Prints a line for the user to standard error; standard output is for what programs read."""
    with contextlib.suppress(OSError):  # the terminal may have been closed; the stack goes on
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


def without_secrets(state: Mapping[str, object]) -> dict[str, object]:
    """The state of a stack without its admin key and without the passwords in its addresses."""
    return {
        name: _without_password(value) if isinstance(value, str) else value
        for name, value in state.items()
        if name != "admin_key"
    }


def _without_password(address: str) -> str:
    parts = urlsplit(address)
    if parts.password is None:
        return address
    return parts._replace(netloc=f"{parts.username}@{parts.netloc.rpartition('@')[2]}").geturl()
