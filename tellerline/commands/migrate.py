"""`tellerline migrate`: database roles, schema, partitions, and the broker's queues."""

import os
import sys
from pathlib import Path

import click
import structlog
import uvloop
from pydantic import Field, SecretStr

from shared.broker.channels import BROKER_FAULTS
from shared.broker.declare import declare_topology
from shared.database import postgres
from shared.database.migrate import ROLES, MigrationError, PartitionsFixed, migrate_database
from shared.domain.ids import PARTITIONS_MAX
from shared.runtime.ledger_secrets import SecretsRefused
from shared.runtime.logs import configure_logs
from shared.runtime.settings import SecretSettings
from tellerline.addresses import DATABASE_URL
from tellerline.local_stack.supervisor.data_dir import DataDir
from tellerline.local_stack.supervisor.plan import migrate_environment
from tellerline.stack_options import data_dir_option, say

FAILED, REFUSED = 1, 2

log = structlog.get_logger()


class MigrateSettings(SecretSettings):
    """The ledger's secrets, the owner's DSN, the broker, and the passwords of the login roles.

    `partitions`: of a new ledger; an existing one must have as many. None: what the ledger has, 1 for a new one.
    """

    database_url: SecretStr
    amqp_url: SecretStr | None = None
    partitions: int | None = Field(default=None, ge=1, le=PARTITIONS_MAX)
    role_password_gateway: SecretStr | None = None
    role_password_worker: SecretStr | None = None
    role_password_poller: SecretStr | None = None
    role_password_distributor: SecretStr | None = None
    role_password_verify: SecretStr | None = None

    def passwords(self) -> dict[str, str]:
        """Login role → password, for those that are set."""
        given = {role: getattr(self, f"role_password_{role}") for role in ROLES}
        return {role: secret.get_secret_value() for role, secret in given.items() if isinstance(secret, SecretStr)}


@click.command("migrate")
@data_dir_option
def command(*, data_dir: Path) -> None:
    """Bring schema and broker topology to this version.

    Uses TELLERLINE_DATABASE_URL (the owner's) and TELLERLINE_AMQP_URL, or else the stack that runs from the data dir.
    Exit code 2 when the settings are wrong, or TELLERLINE_PARTITIONS or the secrets are not the ledger's.
    """
    if DATABASE_URL not in os.environ and f"{DATABASE_URL}_FILE" not in os.environ:
        stack = DataDir(data_dir)
        state = stack.read_state()
        if state is None or "postgres" not in state:
            raise click.ClickException(f"nothing runs in {stack.path}, and {DATABASE_URL} is not set")
        os.environ.update(migrate_environment(stack, str(state["postgres"]), str(state["amqp"])))
    settings = MigrateSettings.load_or_exit()
    configure_logs("migrate", settings.log_format, settings.log_level)
    try:
        uvloop.run(migrate(settings))
    except (PartitionsFixed, SecretsRefused) as refusal:
        say(f"tellerline migrate: {refusal}")
        sys.exit(REFUSED)
    except (MigrationError, *postgres.CONNECTION_FAULTS, *BROKER_FAULTS) as fault:
        log.critical("migrate.failed", error=str(fault) or repr(fault))
        sys.exit(FAILED)


async def migrate(settings: MigrateSettings) -> None:
    """Schema, then topology when a broker is given. Raises MigrationError, SecretsRefused, the servers' faults."""
    partitions = await migrate_database(
        settings.database_url.get_secret_value(),
        partitions=settings.partitions,
        passwords=settings.passwords(),
        secrets=settings.ledger_secrets(),
    )
    if settings.amqp_url is not None:
        await declare_topology(settings.amqp_url.get_secret_value(), partitions=partitions)
    log.info("migrate.done", partitions=partitions)
