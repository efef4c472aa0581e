"""Tells the gateways, through the database, that a process of the mixer makes progress."""

import asyncio
import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from shared.database import postgres

log = structlog.get_logger()

REPORT_S: Final = 2.0
REPORT_TIMEOUT_S: Final = 5.0
WITHDRAW_TIMEOUT_S: Final = 1.0
# A process that has written no report for so long is not ready.
REPORT_S_MAX: Final = 8.0
REPORT = """
INSERT INTO mixer.processes (id, service, seen_at, missing) VALUES ($1, $2, clock_timestamp(), $3)
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, missing = excluded.missing
"""
FORGET = """
DELETE FROM mixer.processes
 WHERE id = $1 OR (service = $2 AND seen_at < clock_timestamp() - interval '1 hour')
"""


class ProgressReport:
    """Writes into the database that this process makes progress, and which of its parts are not ready."""

    def __init__(self, pool: postgres.Pool, service: str, missing: Callable[[], Mapping[str, str]]) -> None:
        self._pool = pool
        self._service = service
        self._missing = missing
        self._id = f"{socket.gethostname()[:32]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._written_s = time.monotonic()
        self._fault = ""
        self._is_withdrawn = False
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Reports until cancelled or withdrawn."""
        while not self._is_withdrawn:
            async with self._writing:
                await self._write()
            await asyncio.sleep(REPORT_S)

    async def withdraw(self) -> None:
        """Removes the report of a process that stops on purpose, and those of copies that died long ago."""
        self._is_withdrawn = True
        with contextlib.suppress(*postgres.TRANSIENT_FAULTS):
            async with self._writing:  # or a report under way would be written after this
                await self._pool.execute(FORGET, self._id, self._service, timeout=WITHDRAW_TIMEOUT_S)

    def late(self) -> str | None:
        """Why the reports are not written; None while they are."""
        late_s = time.monotonic() - self._written_s
        if not self._fault and late_s <= REPORT_S_MAX:
            return None
        return f"the last report was written {late_s:.0f} s ago: {self._fault or 'no answer'}"

    async def _write(self) -> None:
        missing = json.dumps(dict(self._missing()))
        try:
            await self._pool.execute(REPORT, self._id, self._service, missing, timeout=REPORT_TIMEOUT_S)
            self._written_s, self._fault = time.monotonic(), ""
        except postgres.TRANSIENT_FAULTS as fault:
            self._fault = repr(fault)
            log.warning("report.not_written", fault=repr(fault))
