"""`tellerline chaos`: faults at random under load, and the proof that nothing was lost or done twice."""

import asyncio
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from shared.database.postgres import TRANSIENT_FAULTS
from tellerline.chaos.report import as_object, as_table
from tellerline.chaos.run import ChaosRun
from tellerline.chaos.stack import Stack, StackGone, started
from tellerline.local_stack.servers import StartFailed
from tellerline.stack_options import json_option, say

FAILED, NOT_RUN = 1, 2
COPIES_MAX = 16


@click.command("chaos")
@click.option("--minutes", type=click.FloatRange(0.5, 600), default=5.0, show_default=True, help="Of load and faults.")
@click.option("--seed", type=int, default=1, show_default=True, help="Decides which faults strike when.")
@click.option("--workers", type=click.IntRange(1, COPIES_MAX), default=3, show_default=True, help="Ledger workers.")
@click.option("--gateways", type=click.IntRange(1, COPIES_MAX), default=2, show_default=True, help="Gateways.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Hurt the stack that runs there; else one of its own, which is started and thrown away.",
)
@json_option
def command(*, minutes: float, seed: int, workers: int, gateways: int, data_dir: Path | None, as_json: bool) -> None:
    """Kill, stop, cut off and slow down the parts of a stack at random while clients move money.

    Prints the faults and how long each kind took to recover from, and how every unknown outcome ended. Exit code 0 when
    nothing was lost or done twice, all came back and `verify` holds; 1 otherwise, or when too little happened.
    """
    try:
        with ExitStack() as stay:
            if data_dir is None:
                folder = Path(stay.enter_context(tempfile.TemporaryDirectory(prefix="tellerline-chaos-")))
                stack = stay.enter_context(started(folder / "stack", workers, gateways))
            else:
                stack = Stack.of(data_dir)
            report = asyncio.run(ChaosRun(stack, minutes, seed, say).run())
    except (StackGone, StartFailed, *TRANSIENT_FAULTS) as failure:
        say(f"tellerline chaos: {failure or repr(failure)}")
        sys.exit(NOT_RUN)
    click.echo(json.dumps(as_object(report), indent=2) if as_json else as_table(report))
    sys.exit(FAILED if report.failures() else 0)
