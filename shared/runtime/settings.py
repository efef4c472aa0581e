"""Settings from environment variables.

Instead of `NAME`, `NAME_FILE` may give the path of a file that holds the value.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.runtime.ledger_secrets import LedgerSecrets

PREFIX = "TELLERLINE_"
SECRET_CHARACTERS_MIN: Final = 32


class SettingsError(Exception):
    """A setting in the environment is missing or invalid. The message names it, but never its value."""


class ServiceSettings(BaseSettings):
    """The settings of every service. Names of durations end in `_s` or `_ms`, of upper bounds in `_max`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)
    metrics_port: int = Field(default=0, ge=0, le=65_535)
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def load(cls) -> Self:
        """Reads the environment. Raises SettingsError: one line that names what is wrong, and never a value."""
        read_secret_files()
        try:
            return cls()
        except ValidationError as error:
            raise SettingsError("; ".join(_complaints(error))) from error

    @classmethod
    def load_or_exit(cls) -> Self:
        """As `load`, for a service's main: on SettingsError it writes one line to stderr and exits with code 2."""
        try:
            return cls.load()
        except SettingsError as error:
            sys.stderr.write(f"settings: {error}\n")
            sys.exit(2)


def _complaints(error: ValidationError) -> list[str]:
    # Never the input itself: it may be a secret.
    return [
        f"{PREFIX}{'_'.join(str(part) for part in detail['loc']).upper()}: {detail['msg'].lower()}"
        for detail in error.errors(include_url=False, include_context=False, include_input=False)
    ]


Secret = Annotated[SecretStr, Field(min_length=SECRET_CHARACTERS_MIN)]
# An empty value means none: docker-compose mounts a file for it in any case.
OptionalSecret = Annotated[Secret | None, BeforeValidator(lambda given: given or None)]


class SecretSettings(ServiceSettings):
    """The secrets of a ledger. LedgerSecrets says what each is for."""

    secret: Secret
    naming_key: OptionalSecret = None
    secret_previous: OptionalSecret = None

    def ledger_secrets(self) -> LedgerSecrets:
        """Without a naming key the secret is the naming key, as in ledgers that were made before there was one."""
        return LedgerSecrets(
            (self.naming_key or self.secret).get_secret_value(),
            self.secret.get_secret_value(),
            None if self.secret_previous is None else self.secret_previous.get_secret_value(),
        )


class LedgerSettings(SecretSettings):
    """The settings of a service that uses the database and the broker."""

    database_url: SecretStr
    amqp_url: SecretStr


def read_secret_files() -> None:
    """Puts the content of each TELLERLINE_…_FILE into the variable without the suffix, unless that is set."""
    for name, path in list(os.environ.items()):
        target = name.removesuffix("_FILE")
        if not name.startswith(PREFIX) or target == name or target in os.environ:
            continue
        try:
            os.environ[target] = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(f"{name}: {error.strerror}: {path}") from error
