"""Keeps secrets out of the command line, which everybody on the machine can read."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from shared.runtime.settings import PREFIX

# Options that hold a secret → the variable that says the same.
SECRET_OPTIONS: Final[Mapping[str, str]] = {
    "--admin-key": f"{PREFIX}ADMIN_KEY",
    "--api-key": f"{PREFIX}API_KEY",
    "--database-url": f"{PREFIX}DATABASE_URL",
    "--postgres": f"{PREFIX}DATABASE_URL",
}


def without_secrets(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The arguments without the options that hold a secret, and the variables that say the same.

    Options without a value stay, and the command refuses them.
    """
    kept: list[str] = []
    variables: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        option, is_whole, value = argument.partition("=")
        words = [argument]
        if option in SECRET_OPTIONS and not is_whole:
            words += [value := word for word in [next(rest, None)] if word is not None]
        if option in SECRET_OPTIONS and value:
            variables[SECRET_OPTIONS[option]] = value
        else:
            kept += words
    return kept, variables


def move_secrets() -> None:
    """Starts this program anew if its command line holds a secret, with the secret in the environment instead.

    Until then, for some hundredths of a second, `ps` shows it. To avoid even that, set the variable or name a file.
    """
    kept, variables = without_secrets(sys.orig_argv)
    if variables:
        os.execve(sys.executable, kept, os.environ | variables)  # noqa: S606 - this program itself, without a shell
