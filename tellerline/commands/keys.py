"""`tellerline keys`: makes, lists and revokes the API keys of a ledger."""

import json
import re
import sys
from pathlib import Path
from typing import Final

import click
import uvloop

from shared.database import postgres
from shared.domain.api_keys import Scope, new_key
from shared.runtime.settings import SettingsError
from tellerline.addresses import database_option, database_url
from tellerline.stack_options import data_dir_option, json_option, say
from tellerline.verification.store.snapshot import DATABASE_FAULTS

REFUSED, NOT_RUN = 1, 2
PRINCIPAL: Final = re.compile(r"(?!tellerline:)[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}", re.ASCII)
LABEL_CHARACTERS_MAX: Final = 128


@click.group("keys")
def command() -> None:
    """Make, list and revoke API keys. A revoked key is refused within a second."""


WRITE_KEY = "INSERT INTO access.keys (id, hash, principal, scopes, label) VALUES ($1, $2, $3, $4, $5)"


@command.command("create")
@click.option("--principal", required=True, help="Whose key it is: the owner of the accounts that it sees.")
@click.option(
    *("--scope", "scopes"),
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    default=[Scope.READ.value, Scope.WRITE.value],
    show_default=True,
    help="What it may do; give it several times.",
)
@click.option("--label", help="What it is for.")
@database_option
@data_dir_option
@json_option
def create_command(
    *,
    principal: str,
    scopes: tuple[str, ...],
    label: str | None,
    database_url: str | None,
    data_dir: Path,
    as_json: bool,
) -> None:
    """Make a key and print it, once: only its hash is kept."""
    if not PRINCIPAL.fullmatch(principal):
        raise click.BadParameter("letters, digits and ._:@- (128 at most), not tellerline:…", param_hint="--principal")
    if label is not None and len(label) > LABEL_CHARACTERS_MAX:
        raise click.BadParameter(f"{LABEL_CHARACTERS_MAX} characters at most", param_hint="--label")
    key, wanted = new_key(), sorted(set(scopes))
    _rows(database_url, data_dir, WRITE_KEY, key.id, key.hash, principal, wanted, label)
    if as_json:
        click.echo(json.dumps({"id": key.id, "key": key.text, "principal": principal, "scopes": wanted}))
        return
    say(f"Key {key.id} of {principal} ({', '.join(wanted)}). It is not shown again:")
    click.echo(key.text)


LIST_KEYS = """
SELECT id, principal, array_to_string(scopes, ',') AS scopes, label, created_at, revoked_at, last_used_at
  FROM access.keys WHERE $1::text IS NULL OR principal = $1 ORDER BY created_at, id
"""


@command.command("list")
@click.option("--principal", help="Only the keys of this one.")
@database_option
@data_dir_option
@json_option
def list_command(*, principal: str | None, database_url: str | None, data_dir: Path, as_json: bool) -> None:
    """Show every key that was made, revoked ones too, oldest first; never the keys themselves."""
    keys = _rows(database_url, data_dir, LIST_KEYS, principal)
    if as_json:
        click.echo(json.dumps([{**key, "scopes": str(key["scopes"]).split(",")} for key in keys], default=str))
        return
    for key in keys:
        state = f"revoked {_day(key['revoked_at'])}" if key["revoked_at"] else f"used {_day(key['last_used_at'])}"
        made = f"made {_day(key['created_at'])}"
        shown = (key["id"], key["principal"], key["scopes"], made, state, key["label"] or "")
        click.echo("  ".join(map(str, shown)))
    click.echo(f"{len(keys)} keys")


REVOKE_KEY = """
UPDATE access.keys SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE id = $1 RETURNING principal
"""


@command.command("revoke")
@click.argument("key_id")
@database_option
@data_dir_option
def revoke_command(*, key_id: str, database_url: str | None, data_dir: Path) -> None:
    """Revoke a key, for good."""
    revoked = _rows(database_url, data_dir, REVOKE_KEY, key_id)
    if not revoked:
        say(f"there is no key {key_id}")
        sys.exit(REFUSED)
    say(f"Key {key_id} of {revoked[0]['principal']} is revoked: every gateway refuses it within a second.")


def _rows(given_url: str | None, data_dir: Path, statement: str, *arguments: object) -> list[dict[str, object]]:
    """The rows that the statement returns. Ends the process with 2 when the database could not be asked."""

    async def fetch() -> list[dict[str, object]]:
        connection = await postgres.connect(database_url(given_url, data_dir), application="tellerline keys")
        try:
            return [dict(row) for row in await connection.fetch(statement, *arguments)]
        finally:
            await connection.close()

    try:
        return uvloop.run(fetch())
    except (*DATABASE_FAULTS, SettingsError, ValueError) as error:
        say(f"keys cannot be reached: {error or repr(error)}")
        sys.exit(NOT_RUN)


def _day(instant: object) -> str:
    return str(instant)[:19] if instant else "never"
