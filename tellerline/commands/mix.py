"""`tellerline mix`: orders a mix and watches it, over the HTTP API like any other client."""

import asyncio
import json
import uuid
from collections.abc import Sequence
from typing import Final

import click
from pydantic import Field

from tellerline.gateway_api import ApiObject, GatewayClient, gateway_options
from tellerline.stack_options import json_option, say

WATCH_S: Final = 0.3
ENDED: Final = frozenset({"completed", "stuck"})


class ShownPayout(ApiObject):
    """One increment."""

    destination: str
    amount: str
    due_at: str
    status: str
    reason: str | None = None


class Mix(ApiObject):
    """A mix, amounts in JOB."""

    id: str
    status: str
    deposit_address: str
    received: str
    fee: str
    paid: str
    remaining: str
    next_due_at: str | None


class ShownPayouts(ApiObject):
    """A page of them."""

    rows: list[ShownPayout] = Field(alias="data")
    next: str | None


async def read_payouts(gateway: GatewayClient, mix: Mix) -> list[ShownPayout]:
    """All payouts of the mix, in the order in which they are due."""
    found: list[ShownPayout] = []
    following: str | None = ""
    while following is not None:
        path = f"/v1/mixes/{mix.id}/payouts?limit=500" + (f"&cursor={following}" if following else "")
        answer = await gateway.call(ShownPayouts, "GET", path)
        found += answer.rows
        following = answer.next
    return found


async def watch_mix(gateway: GatewayClient, mix: Mix) -> Mix:
    """Polls the mix and prints each change until it has ended. Returns its last state."""
    shown = ""
    while True:
        now = f"{mix.status}: received {mix.received}, paid {mix.paid}, remaining {mix.remaining}"
        if now != shown:
            say(now)
        shown = now
        if mix.status in ENDED:
            return mix
        await asyncio.sleep(WATCH_S)
        mix = await gateway.call(Mix, "GET", f"/v1/mixes/{mix.id}")


watch_option = click.option("--watch", is_flag=True, help="Stay until everything is paid.")


@click.group("mix")
def command() -> None:
    """Order a mix of Jobcoins, and see what became of it."""


@command.command("create")
@click.argument("destinations", nargs=-1, required=True)
@click.option("--fee-percent", default="0", show_default=True, help="Kept from what is received.")
@click.option("--delay", nargs=2, type=float, metavar="MIN MAX", help="Seconds within which increments leave.")
@click.option("--key", help="Idempotency key: the same order with it makes no second mix. Else one is made.")
@watch_option
@json_option
@gateway_options
def create_command(
    *,
    destinations: tuple[str, ...],
    fee_percent: str,
    delay: tuple[float, float] | None,
    key: str | None,
    watch: bool,
    as_json: bool,
    gateway: GatewayClient,
) -> None:
    """Pay what arrives at a fresh deposit address on to DESTINATIONS, unused addresses of the network."""
    order: dict[str, object] = {"destinations": list(destinations), "fee_percent": fee_percent}
    if delay is not None:
        order["delay_s"] = {"min": delay[0], "max": delay[1]}
    if key is None:
        key = str(uuid.uuid4())
        say(f"To order this mix again without a second one: --key {key}")
    mix = asyncio.run(gateway.call(Mix, "POST", "/v1/mixes", order, {"Idempotency-Key": key}))
    say(f"Send Jobcoins to {mix.deposit_address}: they will be mixed and sent on.")
    if watch:
        mix = asyncio.run(watch_mix(gateway, mix))
    print_mix(mix, asyncio.run(read_payouts(gateway, mix)), as_json=as_json)


@command.command("show")
@click.argument("mix_id", metavar="MIX", type=click.UUID)
@watch_option
@json_option
@gateway_options
def show_command(*, mix_id: object, watch: bool, as_json: bool, gateway: GatewayClient) -> None:
    """Show what a mix received, paid, and still has to pay."""
    mix = asyncio.run(gateway.call(Mix, "GET", f"/v1/mixes/{mix_id}"))
    if watch:
        mix = asyncio.run(watch_mix(gateway, mix))
    print_mix(mix, asyncio.run(read_payouts(gateway, mix)), as_json=as_json)


def print_mix(mix: Mix, payouts: Sequence[ShownPayout], *, as_json: bool) -> None:
    """One mix with its payouts, for a program or a person."""
    if as_json:
        whole = mix.model_dump() | {"payouts": [payout.model_dump(exclude_none=True) for payout in payouts]}
        click.echo(json.dumps(whole, indent=2, ensure_ascii=False))
        return
    rows = {
        "mix": mix.id,
        "status": mix.status,
        "deposit to": mix.deposit_address,
        "received": mix.received,
        "fee": mix.fee,
        "paid": mix.paid,
        "remaining": mix.remaining,
        "next due": mix.next_due_at,
    }
    for name, value in rows.items():
        if value is not None:
            click.echo(f"  {name:<10} {value}")
    width = max((len(payout.amount) for payout in payouts), default=0)
    for payout in payouts:
        why = f"  ({payout.reason})" if payout.reason else ""
        click.echo(f"  {payout.status:<10} {payout.amount:>{width}} JOB  {payout.due_at}  {payout.destination}{why}")
