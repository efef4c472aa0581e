"""The command line. A module `tellerline/<name>.py` that holds a `command` is the command `tellerline <name>`."""

import importlib
import importlib.util
import pkgutil

import click

import tellerline


class Commands(click.Group):
    """Imports a command when it is called, so that no command pays for another's imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The modules of this package that hold a command, by name."""
        modules = [module.name for module in pkgutil.iter_modules(tellerline.__path__) if not module.ispkg]
        return [name for name in sorted(modules) if self.get_command(ctx, name)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, None when there is none."""
        _ = ctx
        if not cmd_name.isidentifier() or cmd_name.startswith("_") or cmd_name == "cli":
            return None
        name = f"{tellerline.__name__}.{cmd_name}"
        if importlib.util.find_spec(name) is None:
            return None
        command = getattr(importlib.import_module(name), "command", None)
        return command if isinstance(command, click.Command) else None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tellerline")
def main() -> None:
    """Tellerline: a wallet and ledger service. `tellerline up` runs all of it on this machine."""
