"""Processes are awaited, stopped and found again by what they are, never by their name."""

import asyncio
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tellerline.local_stack.servers import process
from tellerline.local_stack.servers.process import (
    Child,
    StartFailed,
    cut,
    end_leftovers,
    how_it_ended,
    log_tail,
    processes_with,
    until_ready,
)
from tests.tree import ROOT

FOR_EVER = "import time\nwhile True: time.sleep(60)"
DEAF = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(60)"


def python(program: str, log: Path, **variables: str) -> Child:
    return Child([sys.executable, "-c", program], variables, log)


async def never() -> bool:
    return False


async def test_the_end_of_a_process_is_seen_with_its_exit_code(tmp_path: Path) -> None:
    child = python("raise SystemExit(3)", tmp_path / "log")
    assert await child.ended() == 3
    assert not child.running
    assert how_it_ended(3) == "ended with exit code 3"


async def test_a_kill_is_told_from_an_exit(tmp_path: Path) -> None:
    child = python(FOR_EVER, tmp_path / "log")
    os.kill(child.pid, signal.SIGKILL)
    assert how_it_ended(await child.ended()) == "was ended by SIGKILL"


async def test_a_process_that_ignores_the_wish_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = python(DEAF, log)

    async def deaf() -> bool:
        return "deaf" in log_tail(log)

    await until_ready(child, deaf, "the deaf one", 30)
    assert await child.stop(signal.SIGTERM, grace_s=0.1) == -signal.SIGKILL
    assert await child.stop(signal.SIGTERM, grace_s=0.1) == -signal.SIGKILL, "stopping again is harmless"


async def test_a_process_has_a_session_of_its_own_so_that_ctrl_c_does_not_reach_it(tmp_path: Path) -> None:
    child = python(FOR_EVER, tmp_path / "log")
    assert os.getsid(child.pid) == child.pid
    await child.stop(signal.SIGTERM, grace_s=10)


async def test_a_start_that_fails_shows_the_last_lines_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = python("print('first'); raise SystemExit('no such disk')", log)
    with pytest.raises(StartFailed, match=r"(?s)it ended with exit code 1.*no such disk"):
        await until_ready(child, never, "it", 30)


async def test_a_start_that_hangs_is_given_up(tmp_path: Path) -> None:
    child = python(FOR_EVER, tmp_path / "log")
    with pytest.raises(StartFailed, match="was not ready within"):
        await until_ready(child, never, "it", 0.1)
    await child.stop(signal.SIGTERM, grace_s=10)


async def test_leftovers_are_found_by_their_mark_and_nobody_else_is_touched(tmp_path: Path) -> None:
    mark = str(tmp_path / "stack")
    ours = python(FOR_EVER, tmp_path / "log", TELLERLINE_STACK=mark)
    theirs = python(FOR_EVER, tmp_path / "log", TELLERLINE_STACK=mark + "-2")

    def left() -> Iterator[int]:
        return processes_with("TELLERLINE_STACK", mark)

    async def started() -> bool:
        return ours.pid in left()

    await until_ready(ours, started, "ours", 30)
    assert await end_leftovers(left, signal.SIGTERM, 10) == 1
    assert await ours.ended() == -signal.SIGTERM
    assert theirs.running
    await theirs.stop(signal.SIGTERM, 10)


async def test_a_pid_that_means_another_process_by_now_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", FOR_EVER], start_new_session=True) as stranger:
        asked = 0

        def found_once() -> Iterator[int]:
            nonlocal asked
            asked += 1
            return iter([stranger.pid] if asked == 1 else [])

        await end_leftovers(found_once, signal.SIGKILL, 0.1)
        await asyncio.sleep(0)
        assert stranger.poll() is None
        stranger.kill()


def test_a_long_log_is_cut_under_its_writer_and_its_last_part_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LOG_BYTES_MAX", 10)
    log = tmp_path / "x.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"twelve bytes")
        cut(log)
        writer.write(b"more")
        cut(log)
    assert log.read_bytes() == b"more"
    assert (tmp_path / "x.log.1").read_bytes() == b"twelve bytes"


def test_a_long_log_without_room_for_its_copy_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "part.log"
    log.write_bytes(b"x" * 20)
    monkeypatch.setattr(process, "LOG_BYTES_MAX", 10)

    def no_room(_source: Path, target: Path) -> None:
        target.write_bytes(b"x")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", no_room)
    cut(log)
    assert log.read_bytes() == b"x" * 20
    assert not log.with_name("part.log.1").exists()


def test_the_limit_of_open_files_is_raised_as_far_as_the_system_allows() -> None:
    program = "from shared.runtime.service import *; print(raise_descriptor_limit(), *resource.getrlimit(7))"
    for soft, hard, reached in ((100, 4_000, 4_000), (100, 200_000, 65_536), (500, 500, 500)):
        if resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= hard:
            command = ["prlimit", f"--nofile={soft}:{hard}", sys.executable, "-c", program]
            told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
            assert told.split() == [str(reached), str(reached), str(hard)]
