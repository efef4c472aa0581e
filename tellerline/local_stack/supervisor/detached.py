"""A supervisor in a session of its own, and what it tells the command that started it, as JSON lines through a pipe."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO, cast

from tellerline.local_stack.servers import StartFailed
from tellerline.local_stack.servers.process import cut
from tellerline.local_stack.supervisor.data_dir import DataDir
from tellerline.local_stack.supervisor.plan import Options
from tellerline.local_stack.supervisor.run import Supervisor
from tellerline.local_stack.supervisor.service import program


def start_detached(options: Options, say: Callable[[str], None]) -> Mapping[str, object]:
    """Starts it and waits until its stack is ready; what `status --json` prints. Raises StartFailed."""
    data_dir = DataDir(options.data_dir)
    data_dir.prepare()
    log = data_dir.log("supervisor")
    cut(log)
    reading, writing = os.pipe()
    with log.open("ab") as file:
        supervisor = subprocess.Popen(
            program("tellerline.local_stack.supervisor", str(writing), str(data_dir.path)),
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            pass_fds=(writing,),
            start_new_session=True,
            text=True,
        )
    os.close(writing)
    if supervisor.stdin is None:
        raise RuntimeError("no way to tell the supervisor its options")
    with supervisor.stdin as file, contextlib.suppress(BrokenPipeError):
        # Not as arguments, which everybody on the machine may read: the admin key is among them.
        file.write(options_as_text(replace(options, data_dir=data_dir.path)))
    try:
        with os.fdopen(reading, encoding="utf-8") as lines:
            return first_outcome(lines, say, log)
    except KeyboardInterrupt:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait()
        raise


def first_outcome(lines: Iterable[str], say: Callable[[str], None], log: Path) -> Mapping[str, object]:
    """Passes on what is said, until the stack is ready. Raises StartFailed."""
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


def options_as_text(options: Options) -> str:
    """For `options_from_text`."""
    return json.dumps({**asdict(options), "data_dir": str(options.data_dir)})


def options_from_text(text: str) -> Options:
    """What `options_as_text` wrote."""
    options = Options(**json.loads(text))
    return replace(options, data_dir=Path(options.data_dir))


class Reporter:
    """Writes to the log for ever, and to the pipe until the outcome of the start is known."""

    def __init__(self, pipe: TextIO) -> None:
        self._pipe = pipe

    def say(self, text: str) -> None:
        """One line, with its time, into the log."""
        print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}", flush=True)
        self._send({"said": text})

    def ready(self, state: Mapping[str, object]) -> None:
        """The last thing that the command hears."""
        self._send({"ready": state})
        self._close()

    def failed(self, failure: StartFailed) -> None:
        """Likewise."""
        print(failure, flush=True)
        self._send({"failed": str(failure), "exit_code": failure.exit_code})
        self._close()

    def _send(self, message: Mapping[str, object]) -> None:
        if self._pipe.closed:
            return
        try:
            self._pipe.write(json.dumps(message) + "\n")
            self._pipe.flush()
        except BrokenPipeError:  # the command was ended; the stack goes on
            self._close()

    def _close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._pipe.close()


def serve(pipe: TextIO, options: Options) -> int:
    """The supervisor's own process; the exit code."""
    reporter = Reporter(pipe)
    data_dir = DataDir(options.data_dir)

    async def run() -> None:
        await Supervisor(options, data_dir, reporter.say, reporter.ready).run(asyncio.Event())

    try:
        with data_dir.locked():
            asyncio.run(run())
    except StartFailed as failure:
        reporter.failed(failure)
        return failure.exit_code
    return 0
