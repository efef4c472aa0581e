"""The balancer's configuration in a real nginx, Debian's or the one of the image, in front of gateways of a test."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tree import ROOT

IMAGE = os.environ.get("TEST_NGINX_IMAGE", "nginx:1.26")
START_MAX_S = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def configuration(folder: Path, port: int, gateways: Sequence[int], settings: Mapping[str, str]) -> str:
    """What is deployed, with other addresses: `folder` for what it writes, `gateways` instead of a name server.

    `settings`: texts of the configuration → what stands there instead.
    """
    servers = "".join(f"server 127.0.0.1:{each} max_fails=0; " for each in gateways)
    replaced = {
        **settings,
        "/tmp/": f"{folder}/",  # noqa: S108 - the text that is replaced
        "listen 8080 backlog=4096": f"listen 127.0.0.1:{port}",
        "set $gateways gateway:8080": "set $gateways gateways",
        "    resolver 127.0.0.11 ": f"    upstream gateways {{ {servers}}}\n    resolver 127.0.0.11 ",
    }
    text = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    return text


def command(path: Path) -> list[str]:
    """How to run nginx here. Skips the test where there is neither the program nor Docker."""
    # Its workers, too, must reach what lies in the folder of a test.
    user = "user root;" if os.getuid() == 0 else ""
    arguments = ["nginx", "-e", "stderr", "-c", str(path), "-g", f"daemon off; {user}"]
    if program := shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        return [program, *arguments[1:]]
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    ):
        pytest.skip("needs nginx or Docker")
    folder = f"{path.parent}:{path.parent}"
    as_us = f"{os.getuid()}:{os.getgid()}"
    return ["docker", "run", "--rm", "--network", "host", "--user", as_us, "--volume", folder, IMAGE, *arguments]


@contextmanager
def balancer(folder: Path, gateways: Sequence[int], settings: Mapping[str, str] | None = None) -> Generator[int]:
    """The port of a balancer in front of the gateways at these ports of loopback. `settings`: see `configuration`."""
    port, path = free_port(), folder / "nginx.conf"
    path.write_text(configuration(folder, port, gateways, settings or {}), encoding="utf-8")
    log = folder / "nginx.log"
    with log.open("wb") as errors:
        running = subprocess.Popen(command(path), stdout=errors, stderr=errors)
    try:
        deadline = time.monotonic() + START_MAX_S
        while not listens(port):
            if running.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nginx does not listen:\n{log.read_text(encoding='utf-8')}")
            time.sleep(0.02)
        yield port
    finally:
        running.terminate()
        running.wait(START_MAX_S)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
