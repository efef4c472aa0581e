"""`python -m benchmarks.request_path`: how many of the project's files one transfer passes through, and how often.

Counts, for one warm `POST /v1/transfers` between two accounts of one partition: in the gateway from the request until
the answer, in the ledger worker from the delivery until its acknowledgement, the files of which a function was called
in each of the recorded transfers, and the hops: calls from one file into another, their median. A coroutine that goes
on is no call.
"""

import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

from benchmarks.frames import ACKNOWLEDGES, FOLDER, ROOT

WARM: Final = 30
RECORDED: Final = 15
# Between transfers, and after the last: events and acknowledgements are gathered for as long.
REST_S: Final = 0.5
WRITTEN_S_MAX: Final = 30.0
HOOK: Final = "from benchmarks.frames import install\n\ninstall()\n"

Call = tuple[float, str, str]


def main() -> None:
    """Runs a stack of its own in a temporary folder, and prints the counts."""
    with tempfile.TemporaryDirectory(prefix="tellerline-path-") as name:
        folder = Path(name)
        (folder / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
        (folder / "frames").mkdir()
        environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", FOLDER: str(folder / "frames")}
        stack = json.loads(
            _tellerline(
                environment, "up", "--detach", "--json", "--secrets", "--port", "0", "--data-dir", str(folder / "stack")
            )
        )
        try:
            windows = _transfer(stack)
            for process in ("gateway-1", "ledger_worker-1"):
                calls = _recorded(folder / "frames" / f"{stack['pids'][process]}.json")
                _show(process, [_within(calls, *window, is_worker=process != "gateway-1") for window in windows])
        finally:
            _tellerline(environment, "down", "--data-dir", str(folder / "stack"))


def _transfer(stack: Mapping[str, object]) -> list[tuple[float, float]]:
    """Sends transfers while gateway and worker record. When each began and ended, in monotonic seconds."""
    pids = cast("Mapping[str, int]", stack["pids"])
    url = urlsplit(str(stack["gateway"]))
    connection = http.client.HTTPConnection(str(url.hostname), url.port)
    headers = {"Authorization": f"Bearer {stack['admin_key']}", "Content-Type": "application/json"}

    def post(path: str, **body: str) -> None:
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read()
        if response.status != http.client.CREATED:
            raise RuntimeError(f"{path} answered {response.status}: {text!r}")

    for account in ("alice", "bob"):
        post("/v1/accounts", id=account, asset="EUR")
    post("/v1/deposits", account="alice", amount="1000", asset="EUR")
    windows: list[tuple[float, float]] = []
    for number in range(WARM + RECORDED):
        if number == WARM:
            time.sleep(REST_S)
            _toggle(pids)
        began_s = time.monotonic()
        post("/v1/transfers", source="alice", destination="bob", amount="1", asset="EUR")
        if number >= WARM:
            windows.append((began_s, time.monotonic()))
            time.sleep(REST_S)
    _toggle(pids)
    connection.close()
    return windows


def _toggle(pids: Mapping[str, int]) -> None:
    for process in ("gateway-1", "ledger_worker-1"):
        os.kill(pids[process], signal.SIGUSR1)
    time.sleep(REST_S)


def _recorded(path: Path) -> list[Call]:
    until_s = time.monotonic() + WRITTEN_S_MAX
    while not path.exists():
        if time.monotonic() > until_s:
            raise RuntimeError(f"{path.name} was not written")
        time.sleep(0.1)
    return [(call[0], call[1], call[2]) for call in json.loads(path.read_text(encoding="utf-8"))]


def _within(calls: Sequence[Call], began_s: float, ended_s: float, *, is_worker: bool) -> list[Call]:
    found = [call for call in calls if began_s <= call[0] <= ended_s + (REST_S if is_worker else 0)]
    names = [call[1] for call in found]
    return found[: names.index(ACKNOWLEDGES)] if ACKNOWLEDGES in names else found


def _show(process: str, transfers: Sequence[Sequence[Call]]) -> None:
    files = [{called for _, called, _ in calls} for calls in transfers]
    hops = [sum(bool(caller) and caller != called for _, called, caller in calls) for calls in transfers]
    passed_by_all = files[0].intersection(*files)  # in the time of some of them, timers called others
    print(f"{process}: {len(passed_by_all)} files, {statistics.median(hops):.0f} hops")
    for name in sorted(passed_by_all):
        print(f"  {name.removeprefix(ROOT)}")


def _tellerline(environment: Mapping[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "tellerline", *arguments]
    return subprocess.run(command, env=dict(environment), stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    main()
