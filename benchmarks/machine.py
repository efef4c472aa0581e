"""The machine and the servers on which figures were measured."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.broker.connection import connect as connect_to_broker
from shared.database.postgres import connect

SETTINGS: Final = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_compression")
KB_PER_MB: Final = 1024


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts as text. `postgres` holds settings; `load_before` is the load average when the bench began."""

    cpu: str
    cores: int
    memory_mb: int
    kernel: str
    python: str
    postgres: dict[str, str]
    rabbitmq: str
    load_before: float


async def read_machine(postgres_dsn: str | None, amqp_url: str | None) -> Machine:
    """Of this machine, and of the servers that can be asked."""
    memory = _first("/proc/meminfo", "MemTotal").split()
    return Machine(
        cpu=_first("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=int(memory[0]) // KB_PER_MB if memory else 0,
        kernel=platform.release(),
        python=platform.python_version(),
        postgres={} if postgres_dsn is None else await _postgres_settings(postgres_dsn),
        rabbitmq="unseen" if amqp_url is None else await _rabbitmq_version(amqp_url),
        load_before=os.getloadavg()[0],
    )


async def _postgres_settings(dsn: str) -> dict[str, str]:
    connection = await connect(dsn, application="bench")
    try:
        return {name: str(await connection.fetchval("SELECT current_setting($1)", name)) for name in SETTINGS}
    finally:
        await connection.close()


async def _rabbitmq_version(url: str) -> str:
    connection = await connect_to_broker(url, name="bench")
    try:
        version = connection.server_properties.get("version", "unknown")
        return version.decode() if isinstance(version, bytes) else str(version)
    finally:
        await connection.close()


def _first(path: str, name: str) -> str:
    """The value of the first line `name : value`, empty when there is none."""
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
