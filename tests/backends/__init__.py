"""Where the tests get a real PostgreSQL and a real RabbitMQ from: containers, or private servers of this machine.

`TEST_BACKEND=docker|local` decides; without it, Docker is taken if its engine answers.
"""

import os
import shutil
import subprocess
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from tests.backends.servers import PostgresServer, RabbitServer

BackendName = Literal["docker", "local"]
ENGINE_ANSWER_MAX_S = 10


class Backend(Protocol):
    """One way to have servers; each context starts one and takes it away again."""

    def postgres(self) -> AbstractContextManager[PostgresServer]: ...
    def rabbitmq(self) -> AbstractContextManager[RabbitServer]: ...


def chosen() -> tuple[BackendName, str]:
    """The backend of this run, and why."""
    match os.environ.get("TEST_BACKEND", ""):
        case "docker":
            return "docker", "TEST_BACKEND"
        case "local":
            return "local", "TEST_BACKEND"
        case "":
            return ("docker", "its engine answers") if docker_answers() else ("local", "no Docker engine answers")
        case other:
            raise ValueError(f"TEST_BACKEND is docker or local, not {other!r}")


def docker_answers() -> bool:
    """Whether `docker info` finds an engine."""
    if shutil.which("docker") is None:
        return False
    try:
        return (
            subprocess.run(["docker", "info"], capture_output=True, timeout=ENGINE_ANSWER_MAX_S, check=False).returncode
            == 0
        )
    except subprocess.TimeoutExpired:
        return False


def backend(name: BackendName) -> Backend:
    """The backend itself. Imported here, so that unit tests need neither Docker's client nor a server's files."""
    if name == "docker":
        from tests.backends.docker import DockerBackend  # noqa: PLC0415 - see the docstring

        return DockerBackend()
    from tests.backends.local import LocalBackend  # noqa: PLC0415 - see the docstring

    return LocalBackend()
