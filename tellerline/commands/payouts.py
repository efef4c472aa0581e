"""`tellerline payouts`: what the mixer pays, and how an operator ends what no time heals, over the HTTP API."""

import asyncio
import json
from typing import Final

import click
from pydantic import Field

from tellerline.gateway_api import ApiObject, GatewayClient, gateway_options
from tellerline.stack_options import json_option

PATH: Final = "/v1/operator/payouts"
STATUSES: Final = ("stuck", "waiting", "sending", "planned", "cancelled", "resolved", "paid")
PATIENT: Final = {"Prefer": "wait=10"}

payout_argument = click.argument("payout", metavar="ID", type=click.UUID)


class ShownDecision(ApiObject):
    """The last decision about a payout."""

    verb: str
    applied: bool


class FoundPayout(ApiObject):
    """A payout, its amount in JOB."""

    id: str
    mix: str
    destination: str
    amount: str
    due_at: str
    status: str
    attempts: int
    reason: str | None = None
    decision: ShownDecision | None = None

    def line(self) -> str:
        """It in one line."""
        why = f"  {self.reason}" if self.reason else ""
        return f"{self.id}  {self.status:<9}  {self.amount} JOB  {self.due_at}  mix {self.mix}{why}"


class FoundPayouts(ApiObject):
    """A page of them."""

    rows: list[FoundPayout] = Field(alias="data")
    next: str | None


@click.group("payouts")
def command() -> None:
    """Look at payouts of the mixer, try them again, or end them."""


@command.command("list")
@click.option("--status", type=click.Choice(STATUSES), help="Only these; else all that are stuck or wait.")
@json_option
@gateway_options
def list_command(*, status: str | None, as_json: bool, gateway: GatewayClient) -> None:
    """Show payouts: those that are stuck first, then those that wait, each with its reason."""
    wanted = ("stuck", "waiting") if status is None else (status,)
    found = [each for name in wanted for each in asyncio.run(_read_all(gateway, name))]
    if as_json:
        click.echo(json.dumps([each.model_dump(exclude_none=True) for each in found]))
        return
    for each in found:
        click.echo(each.line())
    click.echo(f"{len(found)} payout{'s' * (len(found) != 1)}")


@command.command("show")
@payout_argument
@gateway_options
def show_command(*, payout: object, gateway: GatewayClient) -> None:
    """Print one payout whole, as JSON."""
    _print(asyncio.run(gateway.call(FoundPayout, "GET", f"{PATH}/{payout}")))


def _deciding(verb: str, text: str) -> None:
    """Adds the command that decides so."""

    @command.command(verb, help=text)
    @payout_argument
    @click.option("--why", required=True, help="Stands in the journal.")
    @gateway_options
    def decide(*, payout: object, why: str, gateway: GatewayClient) -> None:
        path = f"{PATH}/{payout}/{verb}"
        _print(asyncio.run(gateway.call(FoundPayout, "POST", path, {"why": why}, PATIENT)))


_deciding("retry", "Try a payout that waits or is stuck again now.")
_deciding("resolve", "Say that a payout was paid by other means: nothing is sent, and its hold is captured.")
_deciding("cancel", "Give up a payout for which nothing was sent: its amount stays on the mix's account.")


def _print(payout: FoundPayout) -> None:
    click.echo(json.dumps(payout.model_dump(exclude_none=True), indent=2, ensure_ascii=False))


async def _read_all(gateway: GatewayClient, status: str) -> list[FoundPayout]:
    found: list[FoundPayout] = []
    following: str | None = ""
    while following is not None:
        path = f"{PATH}?status={status}&limit=500" + (f"&cursor={following}" if following else "")
        answer = await gateway.call(FoundPayouts, "GET", path)
        found += answer.rows
        following = answer.next
    return found
