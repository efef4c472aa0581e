"""`tellerline status`: what runs from this data dir now, and what the ledger waits for."""

import asyncio
import json
import sys
from pathlib import Path
from typing import cast

import click
from pydantic import Field

from tellerline.commands.suspense import read_all
from tellerline.gateway_api import ApiObject, GatewayClient
from tellerline.local_stack.supervisor.data_dir import DataDir
from tellerline.local_stack.supervisor.run import leftovers
from tellerline.stack_options import data_dir_option, json_option, say, secrets_option, show, without_secrets


class ServedPartition(ApiObject):
    """Who serves a partition, and what waits in its queue."""

    partition: int
    owner: str | None
    lease_expires_at: str | None
    batch: int
    recorded_at: str | None
    backlog: int | None
    waiting_since: str | None


class ServedPartitions(ApiObject):
    """All of them."""

    rows: list[ServedPartition] = Field(alias="data")


class WaitingCredits(ApiObject):
    """Credits of one batch that are on their way to another partition."""

    source: int
    batch: int
    destination: int
    recorded_at: str
    credits: list[dict[str, object]] | None


class WaitingCreditsPage(ApiObject):
    """A page of them, by destination."""

    rows: list[WaitingCredits] = Field(alias="data")
    next: str | None


@click.command("status")
@click.option("--ledger", "is_ledger", is_flag=True, help="What the ledger waits for, instead of what runs here.")
@data_dir_option
@json_option
@secrets_option
def command(*, is_ledger: bool, data_dir: Path, as_json: bool, with_secrets: bool) -> None:
    """Show a running stack. Exit code 1 when none runs.

    With --ledger: owner, backlog, its age and last batch of each partition, what lies in suspense, and what is not
    settled, as a gateway says it: the running stack's, or $TELLERLINE_GATEWAY_URL with $TELLERLINE_API_KEY.
    """
    if is_ledger:
        asyncio.run(_show_ledger(GatewayClient.found(None, None, data_dir), as_json=as_json))
        return
    stack = DataDir(data_dir)
    state = stack.read_state()
    if state is None:
        click.echo(json.dumps({"status": "stopped", "pids": {}}) if as_json else f"nothing runs in {stack.path}")
        if left := leftovers(stack):
            say(f"but {left} processes that a killed supervisor left behind: 'tellerline down' stops them")
        sys.exit(1)
    state = state | {"admin_key": stack.admin_key()} if with_secrets else without_secrets(state)
    if not as_json:
        click.echo(f"Tellerline is {state['status']}.")
    show(state, as_json=as_json)
    if not as_json:
        for name, pid in cast("dict[str, int]", state["pids"]).items():
            click.echo(f"  {name:<18} pid {pid}")


async def _show_ledger(gateway: GatewayClient, *, as_json: bool) -> None:
    partitions = (await gateway.call(ServedPartitions, "GET", "/v1/operator/partitions")).rows
    suspense = await read_all(gateway, everything=False)
    unsettled = await gateway.call(WaitingCreditsPage, "GET", "/v1/operator/unsettled?limit=500")
    if as_json:
        shown = {"partitions": partitions, "suspense": suspense, "unsettled": unsettled.rows}
        click.echo(json.dumps({name: [row.model_dump() for row in rows] for name, rows in shown.items()}, indent=2))
        return
    for row in partitions:
        backlog = "?" if row.backlog is None else row.backlog
        click.echo(f"partition {row.partition}: {row.owner or 'nobody'} until {row.lease_expires_at}")
        since = "" if row.waiting_since is None else f", the worker has the oldest since {row.waiting_since}"
        click.echo(f"  {backlog} messages wait{since}; last batch {row.batch} at {row.recorded_at}")
    for each in suspense:
        click.echo(f"in suspense: {each.id}  {each.amount} {each.asset} since {each.recorded_at}")
    for row in unsettled.rows:
        count = "credits that cannot be read" if row.credits is None else f"{len(row.credits)} credits"
        click.echo(f"not settled: {count} of {row.recorded_at}, partition {row.source} to {row.destination}")
    more = " or more" if unsettled.next else ""
    click.echo(f"{len(suspense)} in suspense, {len(unsettled.rows)}{more} batches with unsettled credits")
