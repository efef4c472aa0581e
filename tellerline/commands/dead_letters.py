"""`tellerline dead-letters`: messages that no service could process, and how each ends, over the HTTP API."""

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

import click
from pydantic import Field

from tellerline.gateway_api import REFUSED, ApiObject, GatewayClient, Refused, gateway_options
from tellerline.stack_options import json_option, say

PATH: Final = "/v1/operator/dead-letters"
ID_LENGTH_MIN: Final = 6
PATIENT: Final = {"Prefer": "wait=10"}

id_option = click.option("--id", "wanted", metavar="ID", required=True, help="The message, or how its id begins.")


class ShownDeadLetter(ApiObject):
    """One message; `body` only if it was asked for alone."""

    id: str
    reason: str
    since: str | None
    exchange: str
    key: str
    kind: str
    bytes: int
    retries: int
    body: str = ""

    def line(self) -> str:
        """It in one line."""
        again = f", retried {self.retries} times" if self.retries else ""
        where = f"{self.exchange or '?'}/{self.key}"
        return f"{self.id}  {self.since or '?'}  {where}  {self.kind}  {self.bytes} bytes{again}  {self.reason}"

    def whole(self) -> dict[str, object]:
        """Its fields, with the body as JSON if it is."""
        try:
            return self.model_dump() | {"body": json.loads(self.body)}
        except ValueError:
            return self.model_dump()


class ShownDeadLetters(ApiObject):
    """A page of them."""

    rows: list[ShownDeadLetter] = Field(alias="data")
    next: str | None


class EndedCommand(ApiObject):
    """A command of a message, and its outcome if it has one."""

    id: str
    status: str
    code: str | None
    recorded_at: str | None

    def line(self, decided_at: str) -> str:
        """What became of it, and whether that was so before the message was sent back at `decided_at`."""
        if self.recorded_at is None:
            return f"{self.id} has no outcome yet: ask /v1/operations/{self.id}"
        already = "was already" if self.recorded_at < decided_at else "is now"
        return f"{self.id} {already} {self.status}{f' {self.code}' if self.code else ''}, at {self.recorded_at}"


class EndedLetter(ApiObject):
    """A decision, as the journal keeps it."""

    recorded_at: str
    commands: Sequence[EndedCommand]


@click.group("dead-letters")
def command() -> None:
    """Look at messages that no service could process, send them back, or end them."""


@command.command("list")
@json_option
@gateway_options
def list_command(*, as_json: bool, gateway: GatewayClient) -> None:
    """Show every dead letter, oldest first."""
    found = asyncio.run(_read_all(gateway))
    if as_json:
        click.echo(json.dumps([each.model_dump(exclude={"body"}) for each in found]))
        return
    for each in found:
        click.echo(each.line())
    click.echo(f"{len(found)} dead letter{'s' * (len(found) != 1)}")


@command.command("show")
@id_option
@gateway_options
def show_command(*, wanted: str, gateway: GatewayClient) -> None:
    """Print one message whole, as JSON."""
    found = asyncio.run(_show(gateway, wanted))
    click.echo(json.dumps(found.whole(), indent=2, ensure_ascii=False))


@command.command("retry")
@click.option("--id", "wanted", metavar="ID", help="The message, or how its id begins.")
@click.option("--all", "everything", is_flag=True, help="Every message that is there now, oldest first.")
@gateway_options
def retry_command(*, wanted: str | None, everything: bool, gateway: GatewayClient) -> None:
    """Send messages back to where they came from, and say what became of their commands.

    A command that had its effect already has none again. A message that fails again becomes a dead letter again. With
    --all, one that cannot be sent back keeps no other from it.
    """
    if (wanted is None) != everything:
        raise click.UsageError("say --id or --all")
    sent, refused = asyncio.run(_retry(gateway, wanted))
    click.echo(f"{sent} sent back")
    if refused:
        sys.exit(REFUSED)


@command.command("resolve")
@id_option
@click.option("--reason", required=True, help="Why it is of no use; stands in the journal.")
@gateway_options
def resolve_command(*, wanted: str, reason: str, gateway: GatewayClient) -> None:
    """Print one message and remove it for good: there is no other copy. The journal keeps who did it, and why."""
    if not reason.strip():
        raise click.UsageError("a reason, please")

    async def resolve() -> None:
        message = await _show(gateway, wanted)
        # First, so that whoever is killed in between has the message in the queue, on the terminal, or both.
        click.echo(json.dumps({"dropped": message.whole(), "why": reason}, ensure_ascii=False))
        sys.stdout.flush()
        await gateway.call(EndedLetter, "POST", f"{_path(message)}/resolve", {"reason": reason})

    asyncio.run(resolve())


command.add_command(resolve_command, "drop")


async def _retry(gateway: GatewayClient, wanted: str | None) -> tuple[int, int]:
    """How many messages were sent back, and how many could not be."""
    messages = await _read_all(gateway) if wanted is None else [await _find(gateway, wanted)]
    refused = 0
    for message in messages:
        try:
            ended = await gateway.call(EndedLetter, "POST", f"{_path(message)}/retry", headers=PATIENT)
        except Refused as refusal:
            say(f"{message.id}: {refusal.message}")
            refused += 1
            continue
        click.echo(f"sent back {message.line()}")
        for each in ended.commands:
            click.echo(f"  {each.line(ended.recorded_at)}")
    return len(messages) - refused, refused


async def _read_all(gateway: GatewayClient) -> list[ShownDeadLetter]:
    found: list[ShownDeadLetter] = []
    following: str | None = ""
    while following is not None:
        cursor = f"&cursor={following}" if following else ""
        answer = await gateway.call(ShownDeadLetters, "GET", f"{PATH}?limit=500{cursor}")
        found += answer.rows
        following = answer.next
    return found


async def _find(gateway: GatewayClient, wanted: str) -> ShownDeadLetter:
    """The only message whose id begins with `wanted` (ID_LENGTH_MIN characters or more). Raises Refused."""
    if len(wanted) < ID_LENGTH_MIN:
        raise Refused(f"{wanted!r} is too short: at least {ID_LENGTH_MIN} characters of the id are needed")
    matching = [message for message in await _read_all(gateway) if message.id.startswith(wanted)]
    if len(matching) != 1:
        raise Refused(f"{len(matching)} dead letters have an id that begins with {wanted!r}")
    return matching[0]


async def _show(gateway: GatewayClient, wanted: str) -> ShownDeadLetter:
    return await gateway.call(ShownDeadLetter, "GET", _path(await _find(gateway, wanted)))


def _path(message: ShownDeadLetter) -> str:
    return f"{PATH}/{quote(message.id, safe='')}"
