"""PostgreSQL refuses to run as root: how root starts it all the same, with the rights of nobody in particular."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tellerline.servers.process import NotInstalled

UNPRIVILEGED_ID = 1000
PROBE_MAX_S = 20

# From inside, user 1000; from outside, still root: files stay root's, and a folder closed to others stays open.
IN_A_NAMESPACE = ("unshare", "--user", f"--map-user={UNPRIVILEGED_ID}", f"--map-group={UNPRIVILEGED_ID}", "--")
# Where namespaces are refused (containers): another user, who may pass closed folders, since the program and the
# data dir often lie below root's home. It has no other right of root.
AS_ANOTHER_USER = (
    "setpriv",
    f"--reuid={UNPRIVILEGED_ID}",
    f"--regid={UNPRIVILEGED_ID}",
    "--clear-groups",
    "--inh-caps=-all,+dac_override",
    "--ambient-caps=-all,+dac_override",
    "--",
)
PROBE = 'test "$(id -u)" != 0 && test -O "$1" && test -w "$1" && exec "$0" --version'


def unprivileged_prefix(program: Path, folder: Path, ways: Sequence[Sequence[str]] | None = None) -> tuple[str, ...]:
    """What to put before a command so that it does not run as root and owns `folder`; empty for everyone but root.

    `ways` are tried in order; the owner of the folder remembers the one that was taken.
    Raises NotInstalled when none works.
    """
    if os.geteuid() != 0:
        return ()
    preferred = [IN_A_NAMESPACE, AS_ANOTHER_USER] if folder.stat().st_uid == 0 else [AS_ANOTHER_USER, IN_A_NAMESPACE]
    refusals: list[str] = []
    for way in ways if ways is not None else preferred:
        give_to(folder, 0 if way[0] == IN_A_NAMESPACE[0] else UNPRIVILEGED_ID)
        if (refusal := refusal_of(way, program, folder)) is None:
            return tuple(way)
        refusals.append(f"{way[0]}: {refusal}")
    raise NotInstalled("PostgreSQL does not run as root, and root's rights cannot be dropped: " + "; ".join(refusals))


def refusal_of(way: Sequence[str], program: Path, folder: Path) -> str | None:
    """None when the program starts this way and may write the folder, else what was said."""
    try:
        run = subprocess.run(
            [*way, "sh", "-c", PROBE, str(program), str(folder)],
            capture_output=True,
            text=True,
            check=False,
            timeout=PROBE_MAX_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if run.returncode == 0 else (run.stderr.strip() or f"exit code {run.returncode}")


def give_to(folder: Path, owner: int) -> None:
    """Makes `owner` the owner of the folder and all that is in it."""
    if folder.stat().st_uid == owner:
        return
    for path, folders, files in os.walk(folder, topdown=False):
        for name in (*folders, *files):
            os.chown(Path(path) / name, owner, owner, follow_symlinks=False)
    os.chown(folder, owner, owner)
