"""`tellerline dead-letters`: shows messages that no service could process, sends them back, or drops them."""

import contextlib
import json
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
import uvloop

from shared.broker.channels import BROKER_FAULTS, PublishFailed, open_channel
from shared.broker.connection import connect
from shared.database import postgres
from shared.runtime.settings import SettingsError
from tellerline.addresses import AMQP_URL, amqp_url, database_option, database_url
from tellerline.command_outcomes import command_ids, outcome_lines, read_outcomes
from tellerline.dead_letter_queue import DeadLetter, DeadLetterError, DeadLetterQueue
from tellerline.stack_options import data_dir_option, json_option, say

REFUSED, NOT_RUN = 1, 2
OUTCOMES_WAIT_S = 10.0

Result = TypeVar("Result")

amqp_option = click.option("--amqp-url", metavar="URL", help=f"The broker; else ${AMQP_URL}, else the running stack's.")
id_option = click.option("--id", "wanted", metavar="ID", required=True, help="The message, or how its id begins.")


@click.group("dead-letters")
def command() -> None:
    """Look at messages that no service could process, send them back, or drop them."""


@command.command("list")
@amqp_option
@data_dir_option
@json_option
def list_command(*, amqp_url: str | None, data_dir: Path, as_json: bool) -> None:
    """Show every dead letter, oldest first."""
    messages = _run(amqp_url, data_dir, DeadLetterQueue.messages)
    if as_json:
        click.echo(json.dumps([message.shown(whole=False) for message in messages]))
        return
    for message in messages:
        click.echo(_line(message))
    click.echo(f"{len(messages)} dead letter{'s' * (len(messages) != 1)}")


@command.command("show")
@id_option
@amqp_option
@data_dir_option
def show_command(*, wanted: str, amqp_url: str | None, data_dir: Path) -> None:
    """Print one message whole, as JSON."""
    message = _run(amqp_url, data_dir, lambda queue: queue.find(wanted))
    click.echo(json.dumps(message.shown(whole=True), indent=2, ensure_ascii=False))


@command.command("retry")
@click.option("--id", "wanted", metavar="ID", help="The message, or how its id begins.")
@click.option("--all", "everything", is_flag=True, help="Every message that is there now, oldest first.")
@amqp_option
@database_option
@data_dir_option
def retry_command(
    *, wanted: str | None, everything: bool, amqp_url: str | None, database_url: str | None, data_dir: Path
) -> None:
    """Send messages back to where they came from, and say what became of their commands.

    A command that had its effect already has none again. A message that fails again becomes a dead letter again.
    """
    if (wanted is None) != everything:
        raise click.UsageError("say --id or --all")

    async def retry(queue: DeadLetterQueue) -> int:
        messages = await queue.messages() if wanted is None else [await queue.find(wanted)]
        async with _journal(database_url, data_dir) as journal:
            for message in messages:
                ids = command_ids(message.body)
                before = {} if journal is None else await read_outcomes(journal, ids)
                await queue.retry(message)
                click.echo(f"sent back {_line(message)}")
                if journal is not None:
                    after = await read_outcomes(journal, ids, OUTCOMES_WAIT_S)
                    for line in outcome_lines(ids, before, after):
                        click.echo(f"  {line}")
        return len(messages)

    click.echo(f"{_run(amqp_url, data_dir, retry)} sent back")


@contextlib.asynccontextmanager
async def _journal(given_url: str | None, data_dir: Path) -> "AsyncGenerator[postgres.Connection | None]":
    """A connection that reads the journal; None, with a word of it, when there is none."""
    try:
        connection = await postgres.connect(database_url(given_url, data_dir), application="tellerline dead-letters")
    except (*postgres.CONNECTION_FAULTS, SettingsError) as error:
        say(f"what becomes of the commands cannot be read: {error or repr(error)}")
        yield None
        return
    try:
        yield connection
    finally:
        await connection.close()


@command.command("drop")
@id_option
@click.option(
    "--reason", required=True, help="Why it is of no use; printed with the message, which is gone afterwards."
)
@amqp_option
@data_dir_option
def drop_command(*, wanted: str, reason: str, amqp_url: str | None, data_dir: Path) -> None:
    """Take one message out for good, and print it: there is no other copy."""
    if not reason.strip():
        raise click.UsageError("a reason, please")

    async def drop(queue: DeadLetterQueue) -> None:
        message = await queue.find(wanted)
        # First, so that whoever is killed in between has the message in the queue, on the terminal, or both.
        click.echo(json.dumps({"dropped": message.shown(whole=True), "why": reason}, ensure_ascii=False))
        sys.stdout.flush()
        await queue.drop(message)

    _run(amqp_url, data_dir, drop)


def _run(
    given_url: str | None, data_dir: Path, look: Callable[[DeadLetterQueue], Coroutine[Any, Any, Result]]
) -> Result:
    """The result of `look` on the queue. Ends the process: 1 if it was refused, 2 if the broker cannot be reached."""

    async def run() -> Result:
        connection = await connect(amqp_url(given_url, data_dir), name="tellerline dead-letters")
        try:
            channel = await open_channel(connection, confirmed=False)
            result = await look(DeadLetterQueue(channel, await open_channel(connection, confirmed=True)))
            # The broker answers to this, so every acknowledgement sent before it has arrived.
            await channel.close()
        finally:
            await connection.close()
        return result

    try:
        return uvloop.run(run())
    except DeadLetterError as error:
        say(str(error))
        sys.exit(REFUSED)
    except PublishFailed as error:
        say(f"the broker did not take it, so it is still a dead letter: {error!r}")
        sys.exit(REFUSED)
    except (*BROKER_FAULTS, SettingsError) as error:
        say(f"dead letters cannot be reached: {error or repr(error)}")
        sys.exit(NOT_RUN)


def _line(message: DeadLetter) -> str:
    at = "?" if message.since is None else message.since.strftime("%Y-%m-%d %H:%M:%S")
    again = f", retried {message.retries} times" if message.retries else ""
    where = f"{message.exchange or '?'}/{message.key}"
    return f"{message.id}  {at}  {where}  {message.kind}  {len(message.body)} bytes{again}  {message.reason}"
