"""The data dir of one stack: lock, secrets, ports, logs, and what `tellerline status` shows."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TextIO, cast

from shared.domain.api_keys import KEY_RULE, KEY_TEXT
from tellerline.local_stack.servers.files import KeptPorts, kept_secret, private_folder, write_private
from tellerline.local_stack.servers.process import StartFailed

PID_WRITTEN_MAX_S = 2.0
LOCK_POLL_S = 0.02


def flocked(file: TextIO, kind: int) -> bool:
    """Takes the lock if nobody holds it. Returns whether it did; never waits."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class DataDir:
    """Paths and small files below one folder. Nothing is made before `prepare`."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.ports = KeptPorts(self.path / "ports.json")
        self._lock = self.path / "lock"
        self._state = self.path / "state.json"

    def prepare(self) -> None:
        """Makes the folder, closed to others. Raises StartFailed for a folder that holds something else."""
        try:
            if self.path.exists() and not self._lock.exists() and any(self.path.iterdir()):
                raise StartFailed(f"{self.path} is not empty and no Tellerline data dir: choose another --data-dir")
            private_folder(self.path)
            private_folder(self.path / "log")
            private_folder(self.path / "secrets")
        except OSError as error:
            raise StartFailed(f"{self.path} cannot be used: {error.strerror}") from error

    @contextlib.contextmanager
    def locked(self) -> Generator[None]:
        """Holds the lock of the data dir, which the kernel frees when its holder dies. Raises StartFailed if taken."""
        with self._lock.open("a+", encoding="ascii") as file:
            while not flocked(file, fcntl.LOCK_EX):
                if (pid := self.supervisor_pid()) is not None:
                    raise StartFailed(
                        f"a stack runs in {self.path} already (supervisor {pid}): see 'tellerline status'"
                    )
                time.sleep(LOCK_POLL_S)  # a command holds the shared lock for a moment, in `supervisor_pid`
            file.truncate(0)
            try:
                os.write(file.fileno(), f"{os.getpid()}\n".encode())
            except OSError as error:
                raise StartFailed(f"{self._lock} cannot be written: {error.strerror}") from error
            yield
            file.truncate(0)

    def supervisor_pid(self) -> int | None:
        """The supervisor that holds the lock, if there is one."""
        deadline = time.monotonic() + PID_WRITTEN_MAX_S
        while time.monotonic() < deadline:
            try:
                with self._lock.open("r", encoding="ascii") as file:
                    if flocked(file, fcntl.LOCK_SH):
                        return None
                    if text := file.read().strip():
                        return int(text)
            except FileNotFoundError:
                return None
            time.sleep(LOCK_POLL_S)  # it has the lock and writes its pid next
        return None

    def log(self, name: str) -> Path:
        """The log file of the part with this name."""
        return self.path / "log" / f"{name}.log"

    def secret(self, name: str) -> str:
        """One of the stack's secrets, made at the first start."""
        return kept_secret(self.path / "secrets" / name)

    def naming_key(self) -> str:
        """The key of the ledger's ids. A ledger that was made without one has the signing secret of that time."""
        path = self.path / "secrets" / "naming"
        signing = path.with_name("signing")
        if not path.exists() and signing.exists():
            write_private(path, signing.read_text(encoding="utf-8"))
        return kept_secret(path)

    def previous_secret(self) -> str | None:
        """The signing secret before the last rotation, as long as its file is kept."""
        with contextlib.suppress(FileNotFoundError):
            return (self.path / "secrets" / "signing_previous").read_text(encoding="utf-8").strip() or None
        return None

    def admin_key(self, given: str | None = None) -> str:
        """The admin key; a given one replaces the kept one. Raises StartFailed for one that no gateway would accept."""
        if given is not None and KEY_TEXT.fullmatch(given):
            write_private(self.admin_key_file, given + "\n")
        key = given or kept_secret(self.admin_key_file)
        if not KEY_TEXT.fullmatch(key):
            raise StartFailed(f"the admin key in {self.admin_key_file} cannot be used: {KEY_RULE}")
        return key

    @property
    def admin_key_file(self) -> Path:
        """Gateways read it again while they run: another key in it replaces the present one."""
        return self.path / "admin_key"

    def write_state(self, state: Mapping[str, object]) -> None:
        """Writes what `read_state` returns, also in other processes."""
        write_private(self._state, json.dumps(state, indent=2) + "\n")

    def read_state(self) -> dict[str, object] | None:
        """The state of the stack that runs now, None when none does."""
        if self.supervisor_pid() is None:
            return None
        with contextlib.suppress(FileNotFoundError):
            return cast("dict[str, object]", json.loads(self._state.read_text(encoding="utf-8")))
        return None

    def forget_state(self) -> None:
        """Deletes the state when the stack has stopped."""
        self._state.unlink(missing_ok=True)
