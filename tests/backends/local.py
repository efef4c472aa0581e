"""Private servers of this machine, as `tellerline up` starts them: no Docker, nothing system-wide."""

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from tellerline.local_stack.servers import PrivatePostgres, PrivateRabbit
from tests.backends.servers import PostgresServer, RabbitServer

T = TypeVar("T")


class LocalBackend:
    """Each server in a folder of its own, which goes with it."""

    @contextmanager
    def postgres(self) -> Generator[PostgresServer]:
        with folder("postgres") as place, loop_of_servers() as run:
            server = PrivatePostgres(place, settings={"max_connections": "300"})
            parts = urlsplit(run(server.start()))
            try:
                user, password = unquote(parts.username or ""), unquote(parts.password or "")
                yield PostgresServer(parts.hostname or "", parts.port or 0, user, password)
            finally:
                run(server.stop())

    @contextmanager
    def rabbitmq(self) -> Generator[RabbitServer]:
        with folder("rabbitmq") as place, loop_of_servers() as run:
            # Its API makes a virtual host in milliseconds; on loopback, for one run, it may be on.
            node = PrivateRabbit(place, plugins=("rabbitmq_management",))
            parts = urlsplit(run(node.start()))
            try:
                user, password = unquote(parts.username or ""), unquote(parts.password or "")
                server = RabbitServer(parts.hostname or "", parts.port or 0, user, password, node.management_port)
                server.wait_until_it_answers()
                yield server
            finally:
                run(node.stop())


@contextmanager
def folder(name: str) -> Generator[Path]:
    """A folder for one server's state: short, since paths of sockets are bounded."""
    place = Path(tempfile.mkdtemp(prefix=f"tellerline-tests-{name}-"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


class Runner:
    """Runs coroutines on a loop that keeps turning between them: the servers are watched from it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="servers", daemon=True)
        self.thread.start()

    def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def close(self) -> None:
        """Ends loop and thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@contextmanager
def loop_of_servers() -> Generator[Runner]:
    """A loop in a thread of its own."""
    runner = Runner()
    try:
        yield runner
    finally:
        runner.close()
