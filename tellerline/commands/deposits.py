"""`tellerline deposits`: what comes in to the mixer, and how an operator ends what no time heals, over the HTTP API."""

import asyncio
import json
from typing import Final

import click
from pydantic import Field

from tellerline.gateway_api import ApiObject, GatewayClient, gateway_options
from tellerline.stack_options import json_option

PATH: Final = "/v1/operator/deposits"
STATUSES: Final = ("stuck", "waiting", "sweeping", "resolved", "credited")
PATIENT: Final = {"Prefer": "wait=10"}

sweep_argument = click.argument("sweep", metavar="ID", type=click.UUID)


class ShownSweepDecision(ApiObject):
    """The last decision about a sweep."""

    verb: str
    applied: bool


class FoundSweep(ApiObject):
    """Deposits of one address that are swept together, their amount in JOB."""

    id: str
    mix: str
    address: str
    amount: str
    planned_at: str
    status: str
    attempts: int
    reason: str | None = None
    decision: ShownSweepDecision | None = None

    def line(self) -> str:
        """It in one line."""
        why = f"  {self.reason}" if self.reason else ""
        return f"{self.id}  {self.status:<9}  {self.amount} JOB  {self.planned_at}  mix {self.mix}{why}"


class FoundSweeps(ApiObject):
    """A page of them."""

    rows: list[FoundSweep] = Field(alias="data")
    next: str | None


@click.group("deposits")
def command() -> None:
    """Look at deposits on their way into the mixer, try them again, or write them off."""


@command.command("list")
@click.option("--status", type=click.Choice(STATUSES), help="Only these; else all that are stuck or wait.")
@json_option
@gateway_options
def list_command(*, status: str | None, as_json: bool, gateway: GatewayClient) -> None:
    """Show deposits: those that are stuck first, then those that wait, each with its reason."""
    wanted = ("stuck", "waiting") if status is None else (status,)
    found = [each for name in wanted for each in asyncio.run(_read_all(gateway, name))]
    if as_json:
        click.echo(json.dumps([each.model_dump(exclude_none=True) for each in found]))
        return
    for each in found:
        click.echo(each.line())
    click.echo(f"{len(found)} sweep{'s' * (len(found) != 1)} of deposits")


@command.command("show")
@sweep_argument
@gateway_options
def show_command(*, sweep: object, gateway: GatewayClient) -> None:
    """Print one sweep of deposits, as JSON."""
    _print(asyncio.run(gateway.call(FoundSweep, "GET", f"{PATH}/{sweep}")))


def _deciding(verb: str, text: str) -> None:
    """Adds the command that decides so."""

    @command.command(verb, help=text)
    @sweep_argument
    @click.option("--why", required=True, help="Stands in the journal.")
    @gateway_options
    def decide(*, sweep: object, why: str, gateway: GatewayClient) -> None:
        path = f"{PATH}/{sweep}/{verb}"
        _print(asyncio.run(gateway.call(FoundSweep, "POST", path, {"why": why}, PATIENT)))


_deciding("retry", "Try deposits that wait or are stuck again now.")
_deciding("resolve", "Write deposits off: they are never swept or credited.")


def _print(sweep: FoundSweep) -> None:
    click.echo(json.dumps(sweep.model_dump(exclude_none=True), indent=2, ensure_ascii=False))


async def _read_all(gateway: GatewayClient, status: str) -> list[FoundSweep]:
    found: list[FoundSweep] = []
    following: str | None = ""
    while following is not None:
        path = f"{PATH}?status={status}&limit=500" + (f"&cursor={following}" if following else "")
        answer = await gateway.call(FoundSweeps, "GET", path)
        found += answer.rows
        following = answer.next
    return found
