"""`tellerline bench`: transfers per second beside the baseline service, in one run on one machine."""

import asyncio
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import click

from benchmarks.load import LoadFailed
from benchmarks.long_run import MINUTES_DEFAULT, MINUTES_MAX, MINUTES_MIN, WORKERS, long_run
from benchmarks.report import as_object, as_table
from benchmarks.run import Bencher
from benchmarks.scenarios import FULL, QUICK
from benchmarks.stack import Stack, StackFailed, stack_of
from tellerline.stack_options import checked_admin_key, json_option, say


@click.command("bench")
@click.option("--quick", is_flag=True, help="Fewer and shorter rounds: some 4 minutes instead of 11.")
@click.option(
    "--long",
    "minutes",
    type=click.IntRange(MINUTES_MIN, MINUTES_MAX),
    is_flag=False,
    flag_value=MINUTES_DEFAULT,
    help=f"Instead: a run of so many minutes ({MINUTES_DEFAULT}) over {WORKERS} workers, to see if it slows down.",
)
@json_option
@click.option("--url", metavar="URL", help="A running gateway; without it, a stack is started and stopped.")
@click.option("--admin-key", envvar="TELLERLINE_ADMIN_KEY", callback=checked_admin_key, help="For --url.")
@click.option(
    "--postgres",
    metavar="DSN",
    envvar="TELLERLINE_DATABASE_URL",
    help="For --url: the owner's, for baseline and verify.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="The stack that runs there, or where to start one; else a temporary one.",
)
def command(
    *,
    quick: bool,
    minutes: int | None,
    as_json: bool,
    url: str | None,
    admin_key: str | None,
    postgres: str | None,
    data_dir: Path | None,
) -> None:
    """Measure transfers at 1, 64 and 256 connections and on one hot account, beside the baseline service.

    It opens 10,000 accounts on the stack. Read benchmarks/README.md for what the figures mean.
    """
    try:
        with ExitStack() as stay:
            folder = Path(stay.enter_context(tempfile.TemporaryDirectory(prefix="tellerline-bench-")))
            if minutes is not None and url is not None:
                raise click.UsageError("--long is about a stack of this machine, not --url")
            if url is None:
                workers = 1 if minutes is None else WORKERS
                stack = stay.enter_context(stack_of(data_dir or folder / "stack", workers=workers))
            elif admin_key is None:
                raise click.UsageError("--url needs --admin-key, or TELLERLINE_ADMIN_KEY")
            else:
                stack = Stack(url.rstrip("/"), admin_key, postgres)
            if minutes is not None:
                run = asyncio.run(long_run(stack, minutes, folder, say))
                click.echo(json.dumps(asdict(run), indent=2) if as_json else run.as_table())
                sys.exit(0 if run.is_level else 1)
            found = asyncio.run(Bencher(stack, QUICK if quick else FULL, folder, say).bench())
    except (LoadFailed, StackFailed) as failure:
        say(f"tellerline bench: {failure}")
        sys.exit(1)
    click.echo(json.dumps(as_object(found), indent=2) if as_json else as_table(found))
