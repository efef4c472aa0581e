"""The command line. The module `tellerline/commands/<name>.py` is the command `tellerline <name>`."""

import importlib
import importlib.util
import pkgutil

import click

from shared.runtime.settings import SettingsError, read_secret_files
from tellerline import commands
from tellerline.arguments import move_secrets


class Commands(click.Group):
    """Imports a command when it is called, so that no command pays for another's imports."""

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Runs the command line of this process, without the secrets in it."""
        move_secrets()
        return super().__call__(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, by name; `_` in a module's name is `-` in the command's."""
        _ = ctx
        return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(commands.__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, None when there is none."""
        _ = ctx
        name = f"{commands.__name__}.{cmd_name.replace('-', '_')}"
        if not cmd_name.islower() or "_" in cmd_name or "." in cmd_name or importlib.util.find_spec(name) is None:
            return None
        command = importlib.import_module(name).command
        return command if isinstance(command, click.Command) else None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tellerline")
def main() -> None:
    """Tellerline: a wallet and ledger service. `tellerline up` runs all of it on this machine.

    Instead of an option that holds a key or an address with a password, set its variable TELLERLINE_…, or name a file
    that holds the value in TELLERLINE_…_FILE.
    """
    try:
        read_secret_files()
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
