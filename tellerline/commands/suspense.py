"""`tellerline suspense`: amounts that no account could take, and who gets each, over the HTTP API."""

import asyncio

import click
from pydantic import Field

from tellerline.gateway_api import ApiObject, GatewayClient, gateway_options
from tellerline.stack_options import json_option


class SuspendedAmount(ApiObject):
    """One amount in suspense."""

    id: str
    amount: str
    asset: str
    operation: str | None
    recorded_at: str
    resolved_by: str | None


class SuspendedAmounts(ApiObject):
    """A page of them."""

    rows: list[SuspendedAmount] = Field(alias="data")
    next: str | None


@click.group("suspense")
def command() -> None:
    """Look at amounts in suspense, and say who gets each."""


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Also what is resolved.")
@json_option
@gateway_options
def list_command(*, everything: bool, as_json: bool, gateway: GatewayClient) -> None:
    """Show what lies in suspense."""
    found = asyncio.run(read_all(gateway, everything=everything))
    if as_json:
        click.echo(SuspendedAmounts(data=found, next=None).model_dump_json(indent=2, by_alias=True))
        return
    for each in found:
        click.echo(_line(each))
    click.echo(f"{len(found)} amount{'s' * (len(found) != 1)} in suspense")


@command.command("resolve")
@click.argument("item", metavar="ID")
@click.option("--destination", metavar="ACCOUNT", required=True, help="The account that gets the whole amount.")
@click.option("--reason", help="Stands in the transaction's metadata.")
@json_option
@gateway_options
def resolve_command(*, item: str, destination: str, reason: str | None, as_json: bool, gateway: GatewayClient) -> None:
    """Move one amount out of suspense, by a transaction in the journal. It moves once, however often this is run."""
    body = {"destination": destination} | ({} if reason is None else {"reason": reason})
    path = f"/v1/operator/suspense/{item}/resolve"
    resolved = asyncio.run(gateway.call(SuspendedAmount, "POST", path, body))
    click.echo(resolved.model_dump_json(indent=2) if as_json else _line(resolved))


async def read_all(gateway: GatewayClient, *, everything: bool) -> list[SuspendedAmount]:
    """Every amount in suspense; with `everything` also those that are resolved."""
    found: list[SuspendedAmount] = []
    path = f"/v1/operator/suspense?resolved={str(everything).lower()}"
    following: str | None = ""
    while following is not None:
        answer = await gateway.call(SuspendedAmounts, "GET", path + (f"&cursor={following}" if following else ""))
        found += answer.rows
        following = answer.next
    return found


def _line(each: SuspendedAmount) -> str:
    cause = "a transit row that could not be taken in" if each.operation is None else f"the return {each.operation}"
    ended = "open" if each.resolved_by is None else f"resolved by {each.resolved_by}"
    return f"{each.id}  {each.recorded_at}  {each.amount} {each.asset}  {cause}  ({ended})"
