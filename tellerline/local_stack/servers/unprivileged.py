"""How root starts PostgreSQL, which refuses to run as root: as another user, without root's rights."""

import contextlib
import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tellerline.local_stack.servers.process import NotInstalled

# initdb wants its user to have a name, so one that every Debian has.
USERS = ("postgres", "daemon", "nobody")
PROBE_MAX_S = 20

PROBE = 'test "$(id -u)" != 0 && test -O "$1" && test -w "$1" && exec "$0" --version'


@dataclass(frozen=True, slots=True)
class Way:
    """How to drop root's rights: what to put before a command, and who must own its files."""

    prefix: tuple[str, ...]
    owner: int


def in_a_namespace() -> Way:
    """In a user namespace: the process sees itself as another user, and may still open root's folders."""
    user = unprivileged_user()
    return Way(("unshare", "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}", "--"), owner=0)


def as_another_user() -> Way:
    """As another user, for where namespaces are refused, as in containers.

    It keeps one of root's rights, to enter any folder (CAP_DAC_OVERRIDE), since the program and the data dir often lie
    below root's home.
    """
    user = unprivileged_user()
    rights = ("--clear-groups", "--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override")
    # Without this, access(2), by which initdb looks for its other programs, would ignore that capability.
    bits = "--securebits=+no_setuid_fixup"
    return Way(("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", *rights, bits, "--"), owner=user.pw_uid)


def unprivileged_user() -> pwd.struct_passwd:
    """The first of USERS that there is. Raises NotInstalled."""
    for name in USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise NotInstalled(f"PostgreSQL does not run as root, and there is no user {' or '.join(USERS)}")


def unprivileged_prefix(program: Path, folder: Path) -> tuple[str, ...]:
    """The prefix with which a command does not run as root and owns `folder`; empty for everyone but root.

    The owner of the folder tells which way was taken last; it is tried first. Raises NotInstalled when none works.
    """
    if os.geteuid() != 0:
        return ()
    ways = sorted((in_a_namespace(), as_another_user()), key=lambda way: way.owner != folder.stat().st_uid)
    refusals: list[str] = []
    for way in ways:
        give_to(folder, way.owner)
        if (refusal := refusal_of(way, program, folder)) is None:
            return way.prefix
        refusals.append(f"{way.prefix[0]}: {refusal}")
    raise NotInstalled("PostgreSQL does not run as root, and root's rights cannot be dropped: " + "; ".join(refusals))


def refusal_of(way: Way, program: Path, folder: Path) -> str | None:
    """None when the program starts this way and may write the folder, else the error message."""
    try:
        run = subprocess.run(
            [*way.prefix, "sh", "-c", PROBE, str(program), str(folder)],
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
