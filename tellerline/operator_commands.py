"""Commands about rows of the mixer that an operator looks at and decides about: the same for payouts and deposits."""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Final, Generic, TypeVar

import click
from pydantic import Field

from tellerline.gateway_api import ApiObject, GatewayClient, gateway_options
from tellerline.stack_options import json_option

PATIENT: Final = {"Prefer": "wait=10"}
# What a list shows unless another status is asked for.
LOOKED_AT: Final = ("stuck", "waiting")


class ShownDecision(ApiObject):
    """The last decision about a row."""

    verb: str
    applied: bool


class OperatedRow(ApiObject, ABC):
    """What all such rows have. The amount is in JOB. `reason`: why it waits or is stuck."""

    id: str
    mix: str
    amount: str
    status: str
    attempts: int
    reason: str | None = None
    decision: ShownDecision | None = None

    @property
    @abstractmethod
    def since(self) -> str:
        """The instant by which the list is ordered."""

    def line(self) -> str:
        """It in one line."""
        why = f"  {self.reason}" if self.reason else ""
        return f"{self.id}  {self.status:<9}  {self.amount} JOB  {self.since}  mix {self.mix}{why}"


Row = TypeVar("Row", bound=OperatedRow)


class RowPage(ApiObject, Generic[Row]):
    """A page of them."""

    rows: list[Row] = Field(alias="data")
    next: str | None


def operator_group(
    noun: str, row: type[Row], *, about: str, counted: str, statuses: Sequence[str], verbs: Mapping[str, str]
) -> click.Group:
    """The commands `list`, `show` and those of `verbs` (verb → its help) under this noun, as the API's paths have it.

    `about`: the help of the group; `counted`: what the list counts, such as `payouts`.
    """
    root = f"/v1/operator/{noun}"
    identity = click.argument("identity", metavar="ID", type=click.UUID)

    @click.group(noun, help=about)
    def group() -> None:
        pass

    @group.command("list", help=f"Show {noun}: those that are stuck first, then those that wait, each with its reason.")
    @click.option("--status", type=click.Choice(statuses), help="Only these; else all that are stuck or wait.")
    @json_option
    @gateway_options
    def list_command(*, status: str | None, as_json: bool, gateway: GatewayClient) -> None:
        wanted = LOOKED_AT if status is None else (status,)
        found = [each for name in wanted for each in asyncio.run(_read_all(gateway, row, f"{root}?status={name}"))]
        click.echo(_listed(found, counted, as_json=as_json))

    @group.command("show", help="Print one whole, as JSON.")
    @identity
    @gateway_options
    def show_command(*, identity: object, gateway: GatewayClient) -> None:
        _print(asyncio.run(gateway.call(row, "GET", f"{root}/{identity}")))

    def add(verb: str, text: str) -> None:
        @group.command(verb, help=text)
        @identity
        @click.option("--why", required=True, help="Stands in the journal.")
        @gateway_options
        def decide(*, identity: object, why: str, gateway: GatewayClient) -> None:
            _print(asyncio.run(gateway.call(row, "POST", f"{root}/{identity}/{verb}", {"why": why}, PATIENT)))

    for verb, text in verbs.items():
        add(verb, text)
    return group


def _listed(found: Sequence[OperatedRow], counted: str, *, as_json: bool) -> str:
    if as_json:
        return json.dumps([each.model_dump(exclude_none=True) for each in found])
    return "\n".join([*(each.line() for each in found), f"{len(found)} {counted}"])


def _print(row: OperatedRow) -> None:
    click.echo(json.dumps(row.model_dump(exclude_none=True), indent=2, ensure_ascii=False))


async def _read_all(gateway: GatewayClient, row: type[Row], path: str) -> list[Row]:
    found: list[Row] = []
    following: str | None = ""
    while following is not None:
        cursor = f"&cursor={following}" if following else ""
        answer = await gateway.call(RowPage[row], "GET", f"{path}&limit=500{cursor}")
        found += answer.rows
        following = answer.next
    return found
