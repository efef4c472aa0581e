"""`tellerline mix`: orders a mix and watches it, over the HTTP API like any other client."""

import asyncio
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import aiohttp
import click
from pydantic import BaseModel, ConfigDict, ValidationError

from shared.runtime.settings import PREFIX
from tellerline.local_stack.supervisor.data_dir import DataDir
from tellerline.stack_options import data_dir_option, json_option, say

REFUSED, NOT_RUN = 1, 2
GATEWAY_URL: Final = f"{PREFIX}GATEWAY_URL"
API_KEY: Final = f"{PREFIX}API_KEY"
TIMEOUT_S: Final = 40.0
WATCH_S: Final = 0.3
ENDED: Final = frozenset({"completed", "stuck"})
ACCEPTED: Final = 202
OK_MAX: Final = 299


class ApiObject(BaseModel):
    """A JSON object of the API. Fields without a name here are kept and printed with --json."""

    model_config = ConfigDict(extra="allow", frozen=True)


class ShownPayout(ApiObject):
    """One increment."""

    destination: str
    amount: str
    due_at: str
    status: str


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
    payouts: list[ShownPayout]


class FieldProblem(ApiObject):
    """What is wrong with one field."""

    field: str
    message: str


class ProblemDetails(ApiObject):
    """RFC 9457, as far as it is shown here."""

    title: str
    detail: str = ""
    errors: tuple[FieldProblem, ...] = ()


class Refused(click.ClickException):
    """The API said no; the message says why."""

    exit_code = REFUSED


class NotReached(click.ClickException):
    """There is no gateway that could be asked."""

    exit_code = NOT_RUN


class GatewayClient:
    """Calls one gateway with one API key. Every method raises Refused or NotReached."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/")
        self._key = key

    @classmethod
    def found(cls, url: str | None, key: str | None, data_dir: Path) -> "GatewayClient":
        """The client for the options, else the environment, else the running stack."""
        url, key = url or os.environ.get(GATEWAY_URL), key or os.environ.get(API_KEY)
        if url and key:
            return cls(url, key)
        stack = DataDir(data_dir)
        state = stack.read_state()
        if state is None or not state.get("gateway"):
            raise NotReached(f"nothing runs in {stack.path}; give --url and --api-key")
        return cls(url or str(state["gateway"]), key or str(state["admin_key"]))

    async def call(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Mix:
        """The mix that the API answers with."""
        sent = {"Authorization": f"Bearer {self._key}", **(headers or {})}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.request(method, self._url + path, json=body, headers=sent, allow_redirects=False) as answer,
            ):
                text, status = await answer.text(), answer.status
            if status == ACCEPTED:
                raise Refused("the mixer has not decided yet: give the same --key again in a while")
            if status > OK_MAX:
                problem = ProblemDetails.model_validate_json(text)
                lines = [f"  {error.field}: {error.message}" for error in problem.errors]
                raise Refused("\n".join([problem.detail or problem.title, *lines]))
            return Mix.model_validate_json(text)
        except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError, ValidationError) as fault:
            raise NotReached(f"no answer of a gateway from {self._url} ({type(fault).__name__})") from fault

    async def watch(self, mix: Mix) -> Mix:
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
            mix = await self.call("GET", f"/v1/mixes/{mix.id}")


def gateway_options(function: Callable[..., None]) -> Callable[..., None]:
    """--url, --api-key and --data-dir, given to the command as its `gateway`."""

    @click.option("--url", metavar="URL", help=f"The gateway; else ${GATEWAY_URL}, else the running stack's.")
    @click.option("--api-key", metavar="KEY", help=f"Else ${API_KEY}, else the running stack's admin key.")
    @data_dir_option
    @functools.wraps(function)
    def wrapped(*, url: str | None, api_key: str | None, data_dir: Path, **others: object) -> None:
        function(gateway=GatewayClient.found(url, api_key, data_dir), **others)

    return wrapped


watch_option = click.option("--watch", is_flag=True, help="Stay until everything is paid.")


@click.group("mix")
def command() -> None:
    """Order a mix of Jobcoins, and see what became of it."""


@command.command("create")
@click.argument("destinations", nargs=-1, required=True)
@click.option("--fee-percent", default="0", show_default=True, help="Kept from what is received.")
@click.option("--delay", nargs=2, type=float, metavar="MIN MAX", help="Seconds within which increments leave.")
@click.option("--key", help="Idempotency key: the same order sent again makes no second mix.")
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
    mix = asyncio.run(gateway.call("POST", "/v1/mixes", order, {} if key is None else {"Idempotency-Key": key}))
    say(f"Send Jobcoins to {mix.deposit_address}: they will be mixed and sent on.")
    print_mix(asyncio.run(gateway.watch(mix)) if watch else mix, as_json=as_json)


@command.command("show")
@click.argument("mix_id", metavar="MIX", type=click.UUID)
@watch_option
@json_option
@gateway_options
def show_command(*, mix_id: object, watch: bool, as_json: bool, gateway: GatewayClient) -> None:
    """Show what a mix received, paid, and still has to pay."""
    mix = asyncio.run(gateway.call("GET", f"/v1/mixes/{mix_id}"))
    print_mix(asyncio.run(gateway.watch(mix)) if watch else mix, as_json=as_json)


def print_mix(mix: Mix, *, as_json: bool) -> None:
    """One mix, for a program or a person."""
    if as_json:
        click.echo(mix.model_dump_json(indent=2))
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
    width = max((len(payout.amount) for payout in mix.payouts), default=0)
    for payout in mix.payouts:
        click.echo(f"  {payout.status:<10} {payout.amount:>{width}} JOB  {payout.due_at}  {payout.destination}")
