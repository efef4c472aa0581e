"""`tellerline verify`: proves the journal's invariants and the hash chain over the whole database."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click
import uvloop

from shared.runtime.settings import SettingsError
from tellerline import addresses
from tellerline.stack_options import data_dir_option, json_option, say
from tellerline.verification.proof import Check, Proof, prove
from tellerline.verification.store import DATABASE_FAULTS, snapshot

VIOLATED, NOT_RUN = 1, 2


@click.command("verify")
@addresses.database_option
@data_dir_option
@json_option
def command(*, database_url: str | None, data_dir: Path, as_json: bool) -> None:
    """Prove the whole journal, while it is used: every sum, balance, sequence, limit, credit and hash.

    Exit code 0 when all of it holds, 1 at the first row that breaks a rule (which is named), 2 when it could not run.
    """
    try:
        proof = uvloop.run(_prove(addresses.database_url(database_url, data_dir), as_json=as_json))
    except (*DATABASE_FAULTS, SettingsError, ValueError) as error:
        say(f"verify could not run: {error or repr(error)}")
        sys.exit(NOT_RUN)
    _show(proof, as_json=as_json)
    sys.exit(0 if proof.first_violation is None else VIOLATED)


async def _prove(dsn: str, *, as_json: bool) -> Proof:
    async with snapshot(dsn) as connection:
        return await prove(connection, (lambda _: None) if as_json else _say_check)


def _say_check(check: Check) -> None:
    counted = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in check.counted.items())
    click.echo(f"{'ok  ' if check.ok else 'BAD '} {check.name:<9} {check.seconds:8.2f} s  {counted}")
    click.echo(f"     {check.proves}")


def _show(proof: Proof, *, as_json: bool) -> None:
    violation = proof.first_violation
    if as_json:
        heads = {str(partition): {"batch": batch, "hash": head} for partition, (batch, head) in proof.heads.items()}
        shown = {
            "ok": violation is None,
            "checked": proof.checked,
            "first_violation": None if violation is None else asdict(violation),
            "seconds": round(proof.seconds, 3),
            "heads": heads,
        }
        click.echo(json.dumps(shown))
        return
    if violation is None:
        click.echo(f"The journal holds: {proof.checked['entries']:,} entries in {proof.seconds:.1f} s.")
        return
    click.echo(f"The journal is broken. First bad row: {violation.table} {violation.key}")
    click.echo(f"  rule      {violation.rule}")
    click.echo(f"  expected  {violation.expected}")
    click.echo(f"  found     {violation.found}")
