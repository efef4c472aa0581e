"""A log that cannot be written ends no process, and says afterwards how much of it is missing."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from shared.runtime.logs import LogStream
from tests.tree import ROOT

FULL = Path("/dev/full")
LOG_TWICE = """
import logging, structlog
from shared.runtime.logs import configure_logs
configure_logs("test", "json", "info")
structlog.get_logger().info("first")
logging.getLogger("library").warning("second")
print("still here")
"""


def lost() -> float:
    return REGISTRY.get_sample_value("tellerline_log_lines_lost_total") or 0.0


class Disk:
    """What `os.write` does: `room` bytes are taken, then it is full."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken = b""

    def write(self, _descriptor: int, left: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = left[: self.room]
        self.room -= len(part)
        self.taken += part
        return len(part)


@pytest.fixture
def disk_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Disk]:
    def disk_of(room: int) -> Disk:
        disk = Disk(room)
        monkeypatch.setattr(os, "write", disk.write)
        return disk

    return disk_of


def test_lines_that_a_full_disk_does_not_take_are_counted_and_named_once_there_is_space(
    disk_of: Callable[[int], Disk],
) -> None:
    disk, stream = disk_of(len("first\nsec")), LogStream(2)
    before = lost()
    for line in ("first\n", "second\n", "third\n"):
        stream.write(line)
    disk.room = 1_000
    stream.write("fourth\n")
    stream.write("fifth\n")
    lines = disk.taken.decode().splitlines()
    assert lines[:2] == ["first", "sec"]
    assert json.loads(lines[2]) == {"event": "log.lines_lost", "lines": 2}
    assert lines[3:] == ["fourth", "fifth"]
    assert lost() - before == 2


@pytest.mark.skipif(not FULL.exists(), reason="for Linux")
def test_a_process_whose_log_is_on_a_full_disk_goes_on() -> None:
    with FULL.open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-c", LOG_TWICE], cwd=ROOT, stderr=full, stdout=subprocess.PIPE, check=False
        )
    assert (ended.returncode, ended.stdout) == (0, b"still here\n")


def test_a_record_of_a_library_is_one_line_of_json() -> None:
    ended = subprocess.run([sys.executable, "-c", LOG_TWICE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [json.loads(line)["event"] for line in ended.stderr.splitlines()] == ["first", "second"]
