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
from tellerline.verification.store.snapshot import DATABASE_FAULTS, snapshot

VIOLATED, NOT_RUN, FINDINGS_OPEN = 1, 2, 3


@click.command("verify")
@addresses.database_option
@data_dir_option
@json_option
def command(*, database_url: str | None, data_dir: Path, as_json: bool) -> None:
    """Prove the whole journal, while it is used: every sum, balance, sequence, limit, credit and hash.

    Exit code 0 when all of it holds, 1 at the first row that breaks a rule (which is named), 2 when it could not run,
    3 when all of it holds and an amount in suspense waits for an operator.
    """
    try:
        proof = uvloop.run(_prove(addresses.database_url(database_url, data_dir), as_json=as_json))
    except (*DATABASE_FAULTS, SettingsError, ValueError) as error:
        say(f"verify could not run: {error or repr(error)}")
        sys.exit(NOT_RUN)
    _show(proof, as_json=as_json)
    if proof.first_violation is not None:
        sys.exit(VIOLATED)
    sys.exit(FINDINGS_OPEN if proof.open_findings else 0)


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
            "open_findings": proof.open_findings,
            "findings": [asdict(finding) for finding in proof.findings],
            "seconds": round(proof.seconds, 3),
            "heads": heads,
        }
        click.echo(json.dumps(shown))
        return
    if violation is None:
        _show_findings(proof)
        click.echo(f"The journal holds: {proof.checked['entries']:,} entries in {proof.seconds:.1f} s.")
        return
    click.echo(f"The journal is broken. First bad row: {violation.table} {violation.key}")
    click.echo(f"  rule      {violation.rule}")
    click.echo(f"  expected  {violation.expected}")
    click.echo(f"  found     {violation.found}")


def _show_findings(proof: Proof) -> None:
    for finding in proof.findings:
        ended = "open" if finding.acknowledged_by is None else f"acknowledged by operation {finding.acknowledged_by}"
        click.echo(f"finding {finding.key}: {finding.amount} minor units of {finding.asset}: {finding.cause} ({ended})")
    if proof.open_findings:
        plural = "s" * (proof.open_findings != 1)
        click.echo(f"{proof.open_findings} open finding{plural}: 'tellerline suspense resolve' ends each.")
