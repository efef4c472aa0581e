"""`tellerline backup`: copies the ledger of the running stack into a new data dir, which can be started elsewhere."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click

from tellerline.local_stack.servers import PrivatePostgres, StartFailed
from tellerline.local_stack.supervisor.data_dir import DataDir
from tellerline.local_stack.supervisor.run import servers_of
from tellerline.stack_options import data_dir_option, say

FAILED = 1
# The network of mixes is a foreign system. Messages that wait in the broker are left out: docs/OPERATING.md says why.
KEPT = ("admin_key", "secrets", "postgres/owner_password")


@click.command("backup")
@click.argument("to", type=click.Path(path_type=Path, file_okay=False))
@data_dir_option
def command(*, to: Path, data_dir: Path) -> None:
    """Copy the ledger of the running stack to the new folder TO, with its secrets.

    The copy is a data dir: 'tellerline up --data-dir TO' starts it. Exit code 1: nothing was copied.
    """
    stack = DataDir(data_dir)
    state = stack.read_state()
    if state is None or "postgres" not in state:
        say(f"tellerline backup: nothing runs in {stack.path}; copy the whole folder instead")
        sys.exit(FAILED)
    if to.exists():
        say(f"tellerline backup: {to} exists")
        sys.exit(FAILED)
    copy = DataDir(to)
    try:
        copy.prepare()
        copy_cluster(servers_of(stack)[0], str(state["postgres"]), copy.path / "postgres" / "cluster")
        for name in KEPT:
            copy_kept(stack.path / name, copy.path / name)
        with copy.locked():  # which makes it a data dir
            pass
    except (StartFailed, OSError) as failure:
        shutil.rmtree(copy.path, ignore_errors=True)
        say(f"tellerline backup: {failure}")
        sys.exit(FAILED)
    say(f"copied to {copy.path}; 'tellerline up --data-dir {to}' starts it")


def copy_cluster(server: PrivatePostgres, dsn: str, folder: Path) -> None:
    """A base backup by the server's own client program, since an older one refuses it. Raises StartFailed."""
    folder.parent.mkdir(mode=0o700)
    parts = urlsplit(dsn)
    run = subprocess.run(
        [
            *(str(server.programs() / "pg_basebackup"), "--pgdata", str(folder), "--wal-method=stream"),
            *("--checkpoint=fast", "--no-password", f"--host={parts.hostname}", f"--port={parts.port}"),
            f"--username={unquote(parts.username or '')}",
        ],
        # Not as an argument, which everybody on the machine may read.
        env={**os.environ, "PGPASSWORD": unquote(parts.password or "")},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        raise StartFailed(f"pg_basebackup ended with {run.returncode}: {run.stderr.strip()}")


def copy_kept(source: Path, target: Path) -> None:
    """Copies a file or a folder; nobody else may read it."""
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)
