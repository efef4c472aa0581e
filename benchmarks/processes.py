"""CPU and memory of processes and their descendants, from /proc."""

import asyncio
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PROC: Final = Path("/proc")
KB: Final = 1024


@dataclass(frozen=True, slots=True)
class Process:
    """`cpu_s`: its own and that of its children which have ended."""

    pid: int
    parent: int
    cpu_s: float


def process_of(line: str) -> Process:
    """From the text of /proc/<pid>/stat; the program's name may hold spaces and parentheses."""
    pid, _, rest = line.partition(" ")
    fields = rest.rpartition(")")[2].split()
    # Counted from the state, field 3: 1 is the parent, 11 … 14 are utime, stime, cutime, cstime.
    return Process(int(pid), int(fields[1]), sum(map(int, fields[11:15])) / TICKS_PER_S)


def running(proc: Path = PROC) -> dict[int, Process]:
    """Every process by its pid."""
    found: dict[int, Process] = {}
    for path in proc.glob("[0-9]*/stat"):
        try:
            process = process_of(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue  # it has ended
        found[process.pid] = process
    return found


def trees(roots: Mapping[str, int], processes: Mapping[int, Process]) -> dict[str, list[Process]]:
    """Name → the process and all its descendants. A root counts under its own name only."""
    names = {pid: name for name, pid in roots.items()}
    members: dict[str, list[Process]] = {name: [] for name in roots}
    for process in processes.values():
        at: Process | None = process
        while at is not None and at.pid not in names:
            at = processes.get(at.parent)
        if at is not None:
            members[names[at.pid]].append(process)
    return members


def cpu_by_name(roots: Mapping[str, int]) -> dict[str, float]:
    """Seconds of CPU that each tree has used so far."""
    return {name: sum(each.cpu_s for each in tree) for name, tree in trees(roots, running()).items()}


def used(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Seconds between two readings; a process that was restarted in between counts from its start."""
    return {
        name: cpu_s - before.get(name, 0.0) if cpu_s >= before.get(name, 0.0) else cpu_s
        for name, cpu_s in after.items()
    }


def memory_mb(pids: Mapping[str, int]) -> tuple[float, float]:
    """RSS and PSS over these processes. PSS shares what they share; it is 0 where the kernel does not tell."""
    rss = pss = 0
    for pid in pids.values():
        try:
            text = (PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii", errors="replace")
        except OSError:
            continue
        fields = {line.split(":")[0]: line.split()[1] for line in text.splitlines() if line.endswith(" kB")}
        rss += int(fields.get("Rss", 0))
        pss += int(fields.get("Pss", 0))
    return rss / KB, pss / KB


@dataclass(frozen=True, slots=True)
class IdleUse:
    """What idle processes use: `cpu_share` of one core, and memory."""

    processes: int
    cpu_share: float
    rss_mb: float
    pss_mb: float


async def measure_idle(pids: Mapping[str, int], servers: Collection[str], seconds: float) -> IdleUse:
    """Measures all of `pids` but the `servers` and their children, over so many seconds."""
    before, begun = cpu_by_name(pids), time.monotonic()
    await asyncio.sleep(seconds)
    spent = used(before, cpu_by_name(pids))
    own = {name: pid for name, pid in pids.items() if name not in servers}
    cpu_s = sum(spent[name] for name in own)
    return IdleUse(len(own), cpu_s / (time.monotonic() - begun), *memory_mb(own))
