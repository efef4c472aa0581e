"""A supervisor in a session of its own. It reports to the command that started it by JSON lines through a pipe."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from shared.runtime.logs import LogStream
from tellerline.local_stack.servers import StartFailed
from tellerline.local_stack.servers.process import cut
from tellerline.local_stack.supervisor.data_dir import DataDir
from tellerline.local_stack.supervisor.plan import Options
from tellerline.local_stack.supervisor.run import Supervisor
from tellerline.local_stack.supervisor.service import program


def start_detached(options: Options, data_dir: DataDir, say: Callable[[str], None]) -> Mapping[str, object]:
    """Starts the supervisor, waits until the stack is ready, and returns its state. Raises StartFailed."""
    log = data_dir.log("supervisor")
    cut(log)
    reading, writing = os.pipe()
    # Not as arguments, which everybody on the machine may read: the admin key is among them.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as asked, log.open("ab") as output:
        json.dump(asdict(options), asked)
        asked.seek(0)
        supervisor = subprocess.Popen(
            program("tellerline.local_stack.supervisor", str(writing), str(data_dir.path)),
            stdin=asked,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(writing,),
            start_new_session=True,
        )
    os.close(writing)
    try:
        with os.fdopen(reading, encoding="utf-8") as lines:
            return first_outcome(lines, say, log)
    except KeyboardInterrupt:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait()
        raise


def first_outcome(lines: Iterable[str], say: Callable[[str], None], log: Path) -> Mapping[str, object]:
    """Prints the supervisor's messages by `say`; returns the state once the stack is ready. Raises StartFailed."""
    for line in lines:
        match json.loads(line):
            case {"said": str(text)}:
                say(text)
            case {"failed": str(text), "exit_code": int(exit_code)}:
                raise StartFailed(text, exit_code=exit_code)
            case {"ready": dict()} as message:
                return cast("Mapping[str, object]", message["ready"])
            case other:
                raise RuntimeError(f"the supervisor said {other!r}")
    raise StartFailed(f"the supervisor ended without a word: see {log}")


def serve(pipe: int, data_dir: DataDir, options: Options) -> int:
    """Runs the supervisor in this process, writing to its log and to the pipe; returns the exit code."""

    def tell(message: Mapping[str, object]) -> None:
        with contextlib.suppress(BrokenPipeError):  # the command has ended; the stack goes on
            os.write(pipe, json.dumps(message).encode() + b"\n")

    log = LogStream(sys.stdout.fileno())

    def say(text: str) -> None:
        log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}\n")
        tell({"said": text})

    def ready(state: Mapping[str, object]) -> None:
        tell({"ready": state})

    try:
        with data_dir.locked():
            asyncio.run(Supervisor(options, data_dir, say, ready).run(asyncio.Event()))
    except StartFailed as failure:
        log.write(f"{failure}\n")
        tell({"failed": str(failure), "exit_code": failure.exit_code})
        return failure.exit_code
    return 0
