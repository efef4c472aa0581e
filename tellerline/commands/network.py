"""`tellerline network`: makes the simulated Jobcoin network fail, and shows how often it did."""

import asyncio
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import click

from tellerline.local_stack.supervisor.plan import INSTANCE
from tellerline.network_control import CONTROL_URL, NetworkControl, NetworkFaults, OrderedFault
from tellerline.stack_options import data_dir_option, json_option

PARAMETERS: Final = "seconds=LEAST..MOST, status=NUMBER, rows=NUMBER, call=list|address|send"


@click.group("network")
def command() -> None:
    """Test against the simulated Jobcoin network."""


@command.group("faults")
def faults() -> None:
    """Make the network fail. What it keeps stays exact, whatever it tells its callers.

    \b
    latency                    any call    answered after `seconds`
    refused                    any call    cut; then nobody can connect for `seconds`, in any instance
    reset                      any call    cut, nothing is done
    error                      any call    answered `status` (503), nothing is done
    applied_without_answer     send        done, then cut, or answered `status`
    answered_without_applying  send        answered OK, nothing is done
    delayed_apply              send        cut, or answered `status`; done after `seconds`
    duplicate_rows             reads       `rows` of the newest rows twice
    missing_rows               reads       `rows` of the newest rows missing
    reordered_rows             reads       `rows` times two neighbours swapped
    clock_skew                 reads       timestamps `seconds` late
    html                       any call    done, answered with a page and 200
    large_body                 any call    done, answered with a megabyte and 200
    wrong_types                any call    done, answered with JSON of other types and 200
    """  # noqa: D301 - click keeps the lines after this character as they are


def control_options(function: Callable[..., None]) -> Callable[..., None]:
    """--control-url, --data-dir and --instance, given to the command as its `control`."""

    @click.option(
        "--control-url", metavar="URL", help=f"The network's control port; else ${CONTROL_URL}, else the stack's."
    )
    @click.option("--instance", default=INSTANCE, show_default=True, help="The instance of the network.")
    @data_dir_option
    @json_option
    @functools.wraps(function)
    def wrapped(*, control_url: str | None, instance: str, data_dir: Path, **others: object) -> None:
        function(control=NetworkControl.found(control_url, data_dir, instance), **others)

    return wrapped


@faults.command("list")
@control_options
def list_command(*, control: NetworkControl, as_json: bool) -> None:
    """Show which faults are set, and how many happened since the network started."""
    print_faults(asyncio.run(control.faults()), as_json=as_json)


@faults.command("set")
@click.argument("rates", nargs=-1, metavar="KIND=RATE[,PARAMETER…]…")
@click.option(
    "--script",
    multiple=True,
    metavar="KIND[,PARAMETER…]",
    help="For the next call that it can happen to; give it several times. `none` is no fault.",
)
@click.option("--seed", type=int, help="Decides which calls are hit.")
@control_options
def set_command(
    *, rates: tuple[str, ...], script: tuple[str, ...], seed: int | None, control: NetworkControl, as_json: bool
) -> None:
    """Replace the faults of an instance.

    RATE is the share of the calls that the fault can happen to: `applied_without_answer=0.2`. At most one fault happens
    to a call. Parameters: seconds=LEAST..MOST, status=NUMBER, rows=NUMBER, call=list|address|send, as in
    `delayed_apply=0.05,seconds=2..60`.
    """
    order: dict[str, object] = {
        "rates": [fault_of(text, with_rate=True) for text in rates],
        "script": [fault_of(text, with_rate=False) for text in script],
    }
    if seed is not None:
        order["seed"] = seed
    print_faults(asyncio.run(control.put(order)), as_json=as_json)


@faults.command("clear")
@control_options
def clear_command(*, control: NetworkControl, as_json: bool) -> None:
    """End all faults of an instance. A delayed transfer is still applied."""
    print_faults(asyncio.run(control.clear()), as_json=as_json)


def fault_of(text: str, *, with_rate: bool) -> dict[str, object]:
    """The fault of "kind=0.2,seconds=1..5", as the control port takes it. Raises click.BadParameter."""
    first, *parameters = text.split(",")
    kind, equals, rate = first.partition("=")
    try:
        if bool(equals) is not with_rate:
            raise ValueError("a rate is missing" if with_rate else "a script has no rates")
        fault: dict[str, object] = {"kind": kind, **dict(map(_parameter, parameters))}
        return {**fault, "rate": float(rate)} if with_rate else fault
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}; parameters are {PARAMETERS}") from error


def _parameter(text: str) -> tuple[str, object]:
    name, _, value = text.partition("=")
    if name == "seconds":
        least, _, most = value.partition("..")
        return name, [float(least), float(most or least)]
    if name in {"status", "rows"}:
        return name, int(value)
    if name == "call":
        return name, value
    raise ValueError(f"there is no parameter {name!r}")


def print_faults(found: NetworkFaults, *, as_json: bool) -> None:
    """What is set and what happened, for a program or a person."""
    if as_json:
        click.echo(found.model_dump_json(indent=2))
        return
    _print("by rate", [f"{fault.rate:<8g} {_line(fault)}" for fault in found.rates])
    _print("script", [_line(fault) for fault in found.script])
    _print("happened", [f"{each.count:<8} {each.kind} ({each.call})" for each in found.injected])


def _print(title: str, lines: Sequence[str]) -> None:
    click.echo(f"{title}:" if lines else f"{title}: none")
    for line in lines:
        click.echo(f"  {line}")


def _line(fault: OrderedFault) -> str:
    least, most = fault.seconds
    parts = [f"seconds={least:g}..{most:g}", f"status={fault.status}", f"rows={fault.rows}"]
    return " ".join([fault.kind, *parts, *([f"call={fault.call}"] if fault.call else [])])
