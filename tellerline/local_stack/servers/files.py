"""Secrets and ports that a data dir keeps, beside the servers' own state. Both are chosen once."""

import contextlib
import errno
import json
import os
import secrets
import socket
from pathlib import Path
from typing import cast

LOOPBACK = "127.0.0.1"
# Below the range from which Linux takes the ports of outgoing connections (32768 …), so that a kept port stays free.
PORT_MIN, PORT_MAX = 15_000, 31_999
PORT_TRIES_MAX = 200


def private_folder(path: Path) -> Path:
    """The folder, made if missing, closed to everyone else."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def write_private(path: Path, text: str) -> None:
    """Replaces the file in one step, unless it holds the text already; nobody else may read it.

    So a stack whose files are all there already starts even on a full disk.
    """
    with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
        if path.read_text(encoding="utf-8") == text:
            path.chmod(0o600)
            return
    new = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def kept_secret(path: Path) -> str:
    """The secret in this file, made at the first call: 256 random bits, URL-safe."""
    with contextlib.suppress(FileNotFoundError):
        if kept := path.read_text(encoding="utf-8").strip():
            return kept
    made = secrets.token_urlsafe(32)
    write_private(path, made + "\n")
    return made


def port_is_free(port: int, *, reuse: bool = True) -> bool:
    """Whether a server could listen there now. Without `reuse`, one with connections in TIME_WAIT is not free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
        return True


class KeptPorts:
    """Free ports by name, the same at every start as long as nobody else has taken them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def kept(self, name: str) -> int:
        """The port that a server of this name was given last. Raises KeyError."""
        return self._read()[name]

    def port(self, name: str) -> int:
        """The port of this name. Raises OSError when none is free."""
        kept = self._read()
        if (port := kept.get(name)) is None or not port_is_free(port):
            port = self._free_port(frozenset(kept.values()))
            write_private(self._path, json.dumps(kept | {name: port}, indent=2) + "\n")
        return port

    def _read(self) -> dict[str, int]:
        try:
            return cast("dict[str, int]", json.loads(self._path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}

    def _free_port(self, taken: frozenset[int]) -> int:
        for _ in range(PORT_TRIES_MAX):
            port = PORT_MIN + secrets.randbelow(PORT_MAX - PORT_MIN + 1)
            if port not in taken and port_is_free(port, reuse=False):
                return port
        raise OSError(errno.EADDRINUSE, f"found no free port between {PORT_MIN} and {PORT_MAX}")
