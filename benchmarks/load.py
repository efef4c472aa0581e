"""Load by Debian's wrk: one run and its figures."""

import json
import os
import resource
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SCRIPT: Final = Path(__file__).with_name("wrk") / "transfers.lua"
INSTALLER: Final = Path(__file__).parents[1] / "scripts" / "debian-package.sh"
WRK: Final = Path("/usr/bin/wrk")
INSTALL_MAX_S: Final = 600.0
SLACK_S: Final = 60.0


class LoadFailed(Exception):
    """wrk failed; the message has its output."""


class NoLoadGenerator(LoadFailed):
    """wrk is not there; the message is one line that says how to get it."""


@dataclass(frozen=True, slots=True)
class Load:
    """Transfers by so many connections; `hot`: the account that each of them debits or credits in turn, or None."""

    connections: int
    hot: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where transfers are sent. `accounts`: a file with one id per line."""

    url: str
    api_key: str
    accounts: Path
    asset: str


@dataclass(frozen=True, slots=True)
class Counted:
    """What wrk counted. `refused`: answers of 400 and above; `broken`: connections and time-outs; `cpu_s`: of wrk."""

    requests: int
    duration_s: float
    refused: int
    broken: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_s: float

    @property
    def per_s(self) -> float:
        """Answers of 2xx per second."""
        return (self.requests - self.refused) / self.duration_s


def wrk_program() -> str:
    """Its path; it is installed where that may be. Raises NoLoadGenerator."""
    if (found := shutil.which("wrk")) is not None:
        return found
    if INSTALLER.exists() and os.geteuid() == 0:
        subprocess.run([INSTALLER, "wrk", WRK, ""], check=False, timeout=INSTALL_MAX_S)
    if WRK.exists():
        return str(WRK)
    raise NoLoadGenerator("the load generator is missing: run 'apt-get install wrk' as root")


def run_load(wrk: str, target: Target, load: Load, seconds: float) -> Counted:
    """Sends transfers for so many seconds, each with a key of its own. Blocks. Raises LoadFailed."""
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "BENCH_KEY": target.api_key,  # not as an argument, which everybody on the machine may read
        "BENCH_RUN": uuid.uuid4().hex,
        "BENCH_ACCOUNTS": str(target.accounts),
        "BENCH_ASSET": target.asset,
        "BENCH_HOT": load.hot or "",
    }
    before = _children_cpu_s()
    run = subprocess.run(
        [wrk, "-t1", f"-c{load.connections}", f"-d{seconds:.0f}s", "--timeout", "30s", "-s", SCRIPT, f"{target.url}/"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds + SLACK_S,
        check=False,
    )
    if run.returncode != 0:
        raise LoadFailed(f"wrk ended with {run.returncode}\n{run.stdout}{run.stderr}")
    return counted(run.stdout.splitlines()[-1], _children_cpu_s() - before)


def counted(line: str, cpu_s: float) -> Counted:
    """From the last line that the script printed."""
    said: dict[str, int] = json.loads(line)
    return Counted(
        requests=said["requests"],
        duration_s=said["duration_us"] / 1e6,
        refused=said["refused"],
        broken=said["broken"],
        p50_ms=said["p50_us"] / 1e3,
        p95_ms=said["p95_us"] / 1e3,
        p99_ms=said["p99_us"] / 1e3,
        cpu_s=cpu_s,
    )


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
