"""Processes: started in a session of their own, awaited by pidfd, found again after a crash, stopped by pid."""

import asyncio
import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path

LOG_TAIL_LINES_MAX = 8
LOG_TAIL_BYTES_MAX = 16_384
LOG_BYTES_MAX = 67_108_864
READY_POLL_S = 0.05
KILLED_END_MAX_S = 10.0


class StartFailed(Exception):
    """A part of the stack did not get ready; the message says which, and ends with the last lines of its log.

    `exit_code`: what the command that wanted the start ends with.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class NotInstalled(StartFailed):
    """A program is missing, or cannot run here: trying again would not help."""


class Child:
    """A process of ours. Made inside a running loop, which reaps it the moment it ends.

    `program` is what is executed where that is not the first argument. `pid` is kept after it ended.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        program: str | None = None,
        folder: Path | None = None,
    ) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        cut(log)
        with log.open("ab") as output:
            # A session of its own: Ctrl-C in the terminal reaches the supervisor alone, which stops the rest in order.
            self._process = subprocess.Popen(
                arguments,
                executable=program,
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._ended = asyncio.Event()
        self._handle = os.pidfd_open(self.pid)
        asyncio.get_running_loop().add_reader(self._handle, self._reap)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._handle)
        os.close(self._handle)
        self._process.wait()
        self._ended.set()

    @property
    def running(self) -> bool:
        """Whether the loop has not noticed its end yet."""
        return not self._ended.is_set()

    async def ended(self) -> int:
        """Waits for its end; the exit code, or minus the number of the signal that ended it."""
        await self._ended.wait()
        return self._process.returncode

    async def stop(self, wish: signal.Signals, grace_s: float) -> int:
        """Sends the signal `wish`, then SIGKILL after `grace_s` seconds, unless it has ended. Returns as `ended`."""
        if self.running:
            self._process.send_signal(wish)
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(self.ended(), grace_s)
            self._process.kill()
        return await self.ended()


def cut(log: Path) -> None:
    """Empties a log that has grown long, keeping it as `<name>.1`. Its writer appends, so it may go on writing.

    Where the disk has no room for the copy, the log stays as it is.
    """
    kept = log.with_name(log.name + ".1")
    try:
        if log.stat().st_size > LOG_BYTES_MAX:
            shutil.copyfile(log, kept)
            os.truncate(log, 0)
    except FileNotFoundError:
        return
    except OSError:
        kept.unlink(missing_ok=True)


def log_tail(log: Path, lines_max: int = LOG_TAIL_LINES_MAX) -> str:
    """Its last lines, for a message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES_MAX))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(f"    {line[:400]}" for line in lines[-lines_max:])


async def until_ready(child: Child, ready: Callable[[], Awaitable[bool]], name: str, limit_s: float) -> None:
    """Waits until `ready` says so. Raises StartFailed when the process ends first or the time is up."""
    try:
        async with asyncio.timeout(limit_s):
            while not await ready():
                if not child.running:
                    raise StartFailed(f"{name} {how_it_ended(await child.ended())}\n{log_tail(child.log)}".rstrip())
                await asyncio.sleep(READY_POLL_S)
    except TimeoutError as error:
        raise StartFailed(f"{name} was not ready within {limit_s:.0f} s\n{log_tail(child.log)}".rstrip()) from error


def how_it_ended(code: int) -> str:
    """`Child.ended` in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def processes() -> Iterator[tuple[int, tuple[str, ...]]]:
    """Every other process that can be seen, with its command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().rstrip(b"\0")
                if line:
                    yield int(entry.name), tuple(part.decode(errors="replace") for part in line.split(b"\0"))


def processes_with(variable: str, value: str) -> Iterator[int]:
    """Every other process that was started with this in its environment."""
    wanted = f"{variable}={value}".encode()
    for pid, _ in processes():
        with contextlib.suppress(OSError):
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                yield pid


def works_in(pid: int, folder: Path) -> bool:
    """Whether this is the current folder of the process, by whichever name it was started there."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    return False


async def end_leftovers(find: Callable[[], Iterator[int]], wish: signal.Signals, grace_s: float) -> int:
    """Stops what a crashed run left; returns how many there were.

    `find` is asked twice, since a pid may have been given to another process before there was a handle on it.
    """
    handles: dict[int, int] = {}
    for pid in list(find()):
        with contextlib.suppress(ProcessLookupError):
            handles[pid] = os.pidfd_open(pid)
    try:
        found = [handles[pid] for pid in find() if pid in handles]
        for number, limit_s in ((wish, grace_s), (signal.SIGKILL, KILLED_END_MAX_S)):
            for handle in found:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, number)
            if await asyncio.to_thread(all_ended, found, limit_s):
                break
        return len(handles)
    finally:
        for handle in handles.values():
            os.close(handle)


def all_ended(handles: Sequence[int], limit_s: float) -> bool:
    """Blocks until the processes behind these pidfds have ended; False when the time is up."""
    deadline = time.monotonic() + limit_s
    return all(select.select([handle], [], [], max(0.0, deadline - time.monotonic()))[0] for handle in handles)
