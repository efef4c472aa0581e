"""Records which of the project's files a process passes through. Installed by benchmarks/request_path.py."""

import dis
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

FOLDER: Final = "TELLERLINE_FRAMES"
ROOT: Final = f"{Path(__file__).resolve().parent.parent}{os.sep}"
# The function of the broker's client that acknowledges a delivery.
ACKNOWLEDGES: Final = "basic_ack"
COROUTINES: Final = 0x80 | 0x20 | 0x200  # CO_COROUTINE, CO_GENERATOR, CO_ASYNC_GENERATOR


class Recorder:
    """One record for each call: when (monotonic seconds), the file called, and the file of the caller."""

    def __init__(self) -> None:
        self._calls: list[tuple[float, str, str]] = []
        self._starts: dict[CodeType, int] = {}

    def toggle(self, *_: object) -> None:
        """Starts to record; called again, it stops and writes what it has into the folder."""
        if sys.getprofile() is None:
            self._calls.clear()
            sys.setprofile(self._profile)
            return
        sys.setprofile(None)
        written = Path(os.environ[FOLDER]) / f"{os.getpid()}.json"
        written.with_suffix(".part").write_text(json.dumps(self._calls), encoding="utf-8")
        written.with_suffix(".part").rename(written)

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call":
            return
        code = frame.f_code
        if code.co_name == ACKNOWLEDGES:
            self._calls.append((time.monotonic(), ACKNOWLEDGES, ""))
        elif is_own(code) and self._is_first(frame):
            caller = frame.f_back.f_code if frame.f_back is not None else None
            self._calls.append(
                (time.monotonic(), code.co_filename, caller.co_filename if caller and is_own(caller) else "")
            )

    def _is_first(self, frame: FrameType) -> bool:
        """Whether this is the call itself, and not a coroutine that goes on."""
        code = frame.f_code
        if not code.co_flags & COROUTINES:
            return True
        if code not in self._starts:
            resumes = [each.offset for each in dis.get_instructions(code) if each.opname == "RESUME"]
            self._starts[code] = resumes[0]
        return frame.f_lasti <= self._starts[code]


def is_own(code: CodeType) -> bool:
    """Whether the code is the project's."""
    return code.co_filename.startswith(ROOT) and "site-packages" not in code.co_filename


def install() -> None:
    """SIGUSR1 starts and stops the recording."""
    signal.signal(signal.SIGUSR1, Recorder().toggle)
