"""Connections to RabbitMQ that are reopened when lost. Consumers are not resumed here: `opened` must start them."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

import aio_pika
import aiormq
import structlog
from yarl import URL

from shared.broker.channels import (
    BROKER_FAULTS,
    Channel,
    Connection,
    cancelled_only_by_us,
    is_unblocked,
    when_closed,
)
from shared.runtime.retry import backoff_s

log = structlog.get_logger()

HEARTBEAT_S: Final = 10
CONNECT_TIMEOUT_S: Final = 10.0

# Makes the channels of a new connection. If one of those that it returns is lost, the connection is opened anew.
OpenChannels: TypeAlias = Callable[[Connection], Awaitable[Sequence[Channel]]]


async def connect(url: str, *, name: str, heartbeat_s: int = HEARTBEAT_S) -> Connection:
    """One connection. Sets the heartbeat in the URL, since aiormq ignores the broker's value. Raises BROKER_FAULTS."""
    target = URL(url).update_query(heartbeat=str(heartbeat_s), name=name)
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        return await aiormq.connect(target)


async def connect_aio_pika(url: str, *, name: str) -> aio_pika.abc.AbstractConnection:
    """An aio-pika connection, for work off the hot path: declaring queues, dead letters."""
    return await aio_pika.connect(
        URL(url).update_query(heartbeat=str(HEARTBEAT_S), name=name), timeout=CONNECT_TIMEOUT_S
    )


class ManagedConnection:
    """Keeps one connection open. Calls `opened` after each connect to open its channels, and `lost` when it ends."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        opened: OpenChannels,
        lost: Callable[[], None] = lambda: None,
        heartbeat_s: int = HEARTBEAT_S,
    ) -> None:
        self._url = url
        self._name = name
        self._opened = opened
        self._lost = lost
        self._heartbeat_s = heartbeat_s
        self.current: Connection | None = None
        self._is_open = asyncio.Event()

    async def run(self) -> None:
        """Connects, and connects again, until cancelled."""
        attempt = 0
        while True:
            try:
                with cancelled_only_by_us():
                    async with self._session() as ends:
                        attempt = 0
                        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            except BROKER_FAULTS as fault:
                log.warning("broker.connection_lost", connection=self._name, fault=repr(fault), attempt=attempt)
            await asyncio.sleep(backoff_s(attempt))
            attempt += 1

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncGenerator[list["asyncio.Future[Any]"]]:
        connection = await connect(self._url, name=self._name, heartbeat_s=self._heartbeat_s)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                channels = await self._opened(connection)
            self.current = connection
            self._is_open.set()
            log.info("broker.connected", connection=self._name)
            yield [when_closed(each) for each in (connection, *channels)]
        finally:
            self.current = None
            self._is_open.clear()
            self._lost()
            with contextlib.suppress(*BROKER_FAULTS), cancelled_only_by_us():
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await connection.close()

    async def wait_open(self, timeout_s: float) -> bool:
        """Waits until it is open with its channels; False when the time is up before."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_open.wait(), timeout_s)
        return self._is_open.is_set()

    def is_writable(self) -> bool:
        """True when connected, and not blocked by a memory or disk alarm of the broker."""
        return self.current is not None and is_unblocked(self.current)
