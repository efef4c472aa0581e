"""The mixer's processes on a database and a broker of their own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.backends.databases import Database
from tests.builders import SECRET
from tests.integration.jobcoin import NetworkProcess
from tests.tree import ROOT

API = "/tellerline/api"
START_MAX_S = 30
STOP_MAX_S = 15
KILLED = -signal.SIGKILL
ROLES = {"ledger_worker": "worker", "deposit_poller": "poller", "distributor": "distributor"}
# Quick where only patience is at stake; the settle time still exceeds the time-out of a call.
QUICK = {
    "TELLERLINE_POLL_MS_OPEN": "100",
    "TELLERLINE_POLL_MS_IDLE": "200",
    # A single minor unit is swept and paid, so that tests can have a payout that is not divided.
    "TELLERLINE_MIX_CREDIT_MIN": "0.000000000000000001",
    "TELLERLINE_MIX_SWEEP_MIN": "0.000000000000000001",
    "TELLERLINE_NETWORK_TIMEOUT_S": "1",
    "TELLERLINE_SETTLE_S": "1.5",
    "TELLERLINE_RECLAIM_S": "0.5",
    "TELLERLINE_CLAIM_S": "3",
    "TELLERLINE_JOURNAL_READ_S": "0.2",
    "TELLERLINE_LEASE_TTL_S": "2",
    "TELLERLINE_LEASE_RENEW_S": "0.4",
}


@dataclass(slots=True)
class Process:
    """A service, its log and the address of its metrics."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_MAX_S
        while time.monotonic() < deadline:
            assert self.popen.poll() is None, f"{self.name} ended: {self.text()[-3000:]}"
            url = next((self._url(line) for line in self.text().splitlines() if "metrics.listening" in line), None)
            if url is not None and ready(url):
                return
            time.sleep(0.05)
        raise AssertionError(f"{self.name} is not ready: {self.text()[-3000:]}")

    def wait_killed(self, within_s: float = 60) -> None:
        """Until it died at its fault point."""
        code = self.popen.wait(within_s)
        assert code == KILLED, f"{self.name} ended with {code}: {self.text()[-3000:]}"
        assert "fault.hit" in self.text()

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(STOP_MAX_S)

    def stop(self) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.terminate()
        return self.popen.wait(STOP_MAX_S)

    @staticmethod
    def _url(line: str) -> str:
        return f"http://{json.loads(line)['addresses'][0]}"


def ready(url: str) -> bool:
    """Whether /readyz says so."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5):  # noqa: S310 - ours
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False


@dataclass(slots=True)
class Stage:
    """Starts and stops the processes."""

    database: Database
    amqp: str
    folder: Path
    network: NetworkProcess
    processes: list[Process] = field(default_factory=list[Process])

    @property
    def jobcoin(self) -> str:
        return self.network.url + API

    def start(self, service: str, *, fault: str = "", settings: Mapping[str, str] | None = None) -> Process:
        """A service on this stage; with `fault` it dies at that point, maybe before it was ever ready."""
        log = self.folder / f"{service}-{len(self.processes)}.log"
        environment = {
            **os.environ,
            **QUICK,
            "TELLERLINE_DATABASE_URL": str(getattr(self.database, ROLES[service])),
            "TELLERLINE_AMQP_URL": self.amqp,
            "TELLERLINE_SECRET": SECRET,
            "TELLERLINE_JOBCOIN_URL": self.jobcoin,
            "TELLERLINE_LOG_FORMAT": "json",
            "TELLERLINE_METRICS_PORT": "0",
            "TELLERLINE_FAULT": fault,
            **(settings or {}),
        }
        command = [sys.executable, "-m", f"services.{service}"]
        with log.open("wb") as stream:
            popen = subprocess.Popen(command, env=environment, stderr=stream, cwd=ROOT)
        process = Process(service, popen, log)
        self.processes.append(process)
        if not fault:
            process.wait_ready()
        return process

    def close(self) -> None:
        for process in reversed(self.processes):
            process.stop()


@contextlib.contextmanager
def stage(database: Database, amqp: str, folder: Path) -> Generator[Stage]:
    """A network and a worker; the test brings the rest."""
    network = NetworkProcess(folder / "network")
    network.listening()
    opened = Stage(database, amqp, folder, network)
    try:
        opened.start("ledger_worker")
        yield opened
    finally:
        opened.close()
        network.end(signal.SIGTERM)
