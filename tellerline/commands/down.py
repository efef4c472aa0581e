"""`tellerline down`: stops a stack, and whatever a killed supervisor left of it."""

import asyncio
import os
import signal
from pathlib import Path

import click

from tellerline.local_stack.servers.process import all_ended
from tellerline.local_stack.supervisor.data_dir import DataDir
from tellerline.local_stack.supervisor.run import end_all_leftovers
from tellerline.stack_options import data_dir_option, say

STOP_MAX_S = 120.0  # three tiers, each with its own grace


@click.command("down")
@data_dir_option
def command(*, data_dir: Path) -> None:
    """Stop the stack of this data dir; its data stays."""
    stack = DataDir(data_dir)
    stopped = stop_supervisor(stack)
    left = asyncio.run(end_all_leftovers(stack))
    if left:
        say(f"stopped {left} processes that a supervisor had left behind")
    elif not stopped:
        say(f"nothing runs in {stack.path}")


def stop_supervisor(data_dir: DataDir) -> bool:
    """Stops the supervisor, which stops the rest in order; kills it after STOP_MAX_S. False if there was none."""
    if (pid := data_dir.supervisor_pid()) is None:
        return False
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        if not all_ended([handle], STOP_MAX_S):
            say(f"the supervisor (pid {pid}) did not stop within {STOP_MAX_S:.0f} s and is killed")
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            all_ended([handle], STOP_MAX_S)
    finally:
        os.close(handle)
    say("stopped")
    return True
