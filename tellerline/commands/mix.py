"""`tellerline mix`: orders mixes as the official Jobcoin command-line template does, and watches them.

It says what the template says, word for word, to standard output; everything else goes to standard error.
"""

import asyncio
import json
import re
import shlex
import shutil
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final

import click
from click.core import ParameterSource
from pydantic import Field

from shared.domain.ids import UUID_TEXT
from tellerline.gateway_api import ApiObject, GatewayClient, NotReached, Undecided, find_gateway_options
from tellerline.mix_display import Mix, ShownPayout, as_table, increment_line, increments, progress_line
from tellerline.stack_options import json_option, say

WELCOME: Final = "Welcome to the Jobcoin mixer!\n"
PROMPT: Final = (
    "Please enter a comma-separated list of new, unused Jobcoin addresses where your mixed Jobcoins will be sent."
)
PROMPT_SUFFIX: Final = "\n[blank to quit] > "
ORDERED: Final = (
    "\nYou may now send Jobcoins to address {address}. They will be mixed and sent to your destination addresses.\n"
)
DECIMAL: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?", re.ASCII)
PERCENT_MAX: Final = 100
WATCH_S: Final = 0.5
# A gateway that starts again is waited for.
AWAY_S_MAX: Final = 60.0
ENDED: Final = frozenset({"completed", "stuck"})
INTERRUPTED: Final = 130
JUST_ORDERED: Final = "the one that is ordered"


class ShownPayouts(ApiObject):
    """A page of increments."""

    rows: list[ShownPayout] = Field(alias="data")
    next: str | None


class Senseless(click.ClickException):
    """An option has a value that no mix can have; one line says why."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Wishes:
    """What an order says beside its destinations, as the API takes it."""

    fee_percent: str
    delay_s: tuple[str, str] | None

    def order(self, destinations: Sequence[str]) -> dict[str, object]:
        """The order as the API takes it."""
        order: dict[str, object] = {"destinations": destinations, "fee_percent": self.fee_percent}
        if self.delay_s is not None:
            order["delay_s"] = dict(zip(("min", "max"), map(float, self.delay_s), strict=True))
        return order


@click.command("mix")
@click.argument("addresses", nargs=-1, metavar="[ADDRESS,ADDRESS…]")
@click.option("--fee-percent", default="0", show_default=True, help="Kept from what is received.")
@click.option("--delay", nargs=2, metavar="MIN MAX", help="Seconds within which increments leave.")
@click.option("--key", help="Idempotency key: the same order with it makes no second mix. Else one is made.")
@click.option("--show", "shown", metavar="MIX", help="Show this mix, and order none.")
@click.option(
    *("--watch", "watched"),
    metavar="[MIX]",
    is_flag=False,
    flag_value=JUST_ORDERED,
    help="Follow this mix until everything is paid; without MIX, as the last word, the one that is ordered.",
)
@json_option
@find_gateway_options
def command(
    *,
    addresses: tuple[str, ...],
    fee_percent: str,
    delay: tuple[str, str] | None,
    key: str | None,
    shown: str | None,
    watched: str | None,
    as_json: bool,
    find_gateway: Callable[[], GatewayClient],
) -> None:
    """Order a mix of Jobcoins: what arrives at its deposit address is paid on to ADDRESSES, new and unused ones.

    Without ADDRESSES it asks for them, until the answer is blank. A comma separates two addresses.
    """
    wishes = Wishes(checked_fee(fee_percent), checked_delay(delay))
    follows_order = watched == JUST_ORDERED
    if (mix_id := shown if follows_order or watched is None else watched) is not None:
        if addresses:
            raise Senseless("order a mix, or look at one: not both at once")
        checked = checked_id(mix_id)
        gateway = find_gateway()
        follow(gateway, asyncio.run(read_mix(gateway, checked)), is_watched=watched is not None, as_json=as_json)
    elif not addresses:
        ask(find_gateway, wishes)
    else:
        if key is None:
            key = str(uuid.uuid4())
            say(f"To order this mix again without a second one: --key {key}")
        gateway = find_gateway()
        mix = asyncio.run(place_order(gateway, wishes, split(",".join(addresses)), key))
        if not as_json:
            click.echo(ORDERED.format(address=mix.deposit_address))
        if as_json or follows_order:
            follow(gateway, mix, is_watched=follows_order, as_json=as_json)
        else:
            say(f"To look at it: {look_again(mix)}")


def ask(find_gateway: Callable[[], GatewayClient], wishes: Wishes) -> None:
    """The template's dialogue: one order for each line, until a blank line or the end of the input."""
    click.echo(WELCOME)
    while True:
        try:
            line: str = click.prompt(PROMPT, prompt_suffix=PROMPT_SUFFIX, default="", show_default=False)
        except click.Abort as abort:
            # click says the same of the end of the input and of Ctrl-C.
            if not isinstance(abort.__context__, EOFError):
                raise
            click.echo()
            return
        if not line.strip():
            return
        key = str(uuid.uuid4())
        try:
            mix = asyncio.run(place_order(find_gateway(), wishes, split(line), key))
        except click.ClickException as refused:
            refused.show()
            if isinstance(refused, NotReached | Undecided):
                say(f"To order this mix again without a second one: tellerline mix {line.strip()} --key {key}")
        else:
            click.echo(ORDERED.format(address=mix.deposit_address))


def split(addresses: str) -> list[str]:
    """The addresses of a list. An empty one stays, so that the answer says what is wrong with it."""
    return [address.strip() for address in addresses.split(",")]


async def place_order(gateway: GatewayClient, wishes: Wishes, destinations: Sequence[str], key: str) -> Mix:
    """The ordered mix."""
    return await gateway.call(Mix, "POST", "/v1/mixes", wishes.order(destinations), {"Idempotency-Key": key})


async def read_mix(gateway: GatewayClient, mix_id: str) -> Mix:
    """One mix."""
    return await gateway.call(Mix, "GET", f"/v1/mixes/{mix_id}")


async def read_payouts(gateway: GatewayClient, mix: Mix) -> list[ShownPayout]:
    """All increments of the mix, in the order in which they are due."""
    found: list[ShownPayout] = []
    following: str | None = ""
    while following is not None:
        path = f"/v1/mixes/{mix.id}/payouts?limit=500" + (f"&cursor={following}" if following else "")
        answer = await gateway.call(ShownPayouts, "GET", path)
        found += answer.rows
        following = answer.next
    return found


def follow(gateway: GatewayClient, mix: Mix, *, is_watched: bool, as_json: bool) -> None:
    """Prints the mix, if it is watched once it has ended. Ctrl-C ends the watching, not the mix: exit code 130."""
    try:
        if is_watched:
            mix = asyncio.run(watch(gateway, mix))
        print_mix(mix, asyncio.run(read_payouts(gateway, mix)), as_json=as_json)
    except KeyboardInterrupt:
        say(f"\nThe mix {mix.id} goes on. To look at it: {look_again(mix)}")
        sys.exit(INTERRUPTED)


async def watch(gateway: GatewayClient, mix: Mix) -> Mix:
    """Shows each change until the mix has ended. Returns its last state. Raises NotReached after a minute without."""
    screen = LiveScreen() if sys.stderr.isatty() else ChangeLines()
    answered_s = asyncio.get_running_loop().time()
    while True:
        try:
            mix = await read_mix(gateway, mix.id)
            screen.show(mix, await read_payouts(gateway, mix))
            answered_s = asyncio.get_running_loop().time()
            if mix.status in ENDED:
                return mix
        except NotReached:
            if asyncio.get_running_loop().time() - answered_s > AWAY_S_MAX:
                raise
        await asyncio.sleep(WATCH_S)


def print_mix(mix: Mix, payouts: Sequence[ShownPayout], *, as_json: bool) -> None:
    """One mix with its increments, for a program or a person."""
    if as_json:
        whole = mix.model_dump() | {"payouts": [payout.model_dump(exclude_none=True) for payout in payouts]}
        click.echo(json.dumps(whole, indent=2, ensure_ascii=False))
        return
    click.echo(as_table(mix, payouts))


def look_again(mix: Mix) -> str:
    """The command that follows the mix, at the same gateway."""
    context = click.get_current_context()
    words = ["tellerline", "mix", "--watch", mix.id]
    for name in ("url", "data_dir"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            words += [f"--{name.replace('_', '-')}", str(context.params[name])]
    return shlex.join(words)


def checked_fee(text: str) -> str:
    """A percentage that a fee can be. Raises Senseless."""
    if text.startswith("-"):
        raise Senseless(f"--fee-percent {text}: a fee is not negative")
    if not DECIMAL.fullmatch(text):
        raise Senseless(f"--fee-percent {text}: a fee is a percentage such as 2.5")
    if Fraction(text) >= PERCENT_MAX:
        raise Senseless(f"--fee-percent {text}: a fee is less than 100 percent")
    return text


def checked_delay(delay: tuple[str, str] | None) -> tuple[str, str] | None:
    """Seconds that an increment can wait. Raises Senseless."""
    if delay is None:
        return None
    given = f"--delay {delay[0]} {delay[1]}"
    if not all(map(DECIMAL.fullmatch, delay)):
        raise Senseless(f"{given}: MIN and MAX are seconds, such as 0 and 60")
    if Fraction(delay[0]) > Fraction(delay[1]):
        raise Senseless(f"{given}: MIN is greater than MAX")
    return delay


def checked_id(text: str) -> str:
    """The id of a mix. Raises Senseless."""
    if not UUID_TEXT.fullmatch(text):
        raise Senseless(f"{text} is no id of a mix; to follow the mix that is ordered, put --watch last")
    return text


class LiveScreen:
    """Bar and increments in place, for a terminal."""

    def __init__(self) -> None:
        self._lines = 0

    def show(self, mix: Mix, payouts: Sequence[ShownPayout]) -> None:
        """Draws over what was drawn before."""
        lines = [progress_line(mix, datetime.now(UTC)), *increments(payouts)]
        width = shutil.get_terminal_size().columns - 1
        back = f"\x1b[{self._lines}F\x1b[J" if self._lines else ""
        # It is only used on a terminal, and click would take the codes out for anything that it does not know as one.
        click.echo(back + "\n".join(line[:width] for line in lines), err=True, color=True)
        self._lines = len(lines)


class ChangeLines:
    """A line for each change, for a log."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def show(self, mix: Mix, payouts: Sequence[ShownPayout]) -> None:
        """Prints what has not been printed yet."""
        state = f"{mix.status}: received {mix.received}, paid {mix.paid}, remaining {mix.remaining}"
        for line in (state, *map(increment_line, payouts)):
            if line not in self._shown:
                say(line)
                self._shown.add(line)
