"""The baseline's pool. asyncpg's own resets each connection that comes back: one more round trip per request."""

import asyncio
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager

from shared.database.postgres import Connection, connect


class Connections:
    """A fixed number of connections; the one that came back last is taken first, since its caches are warm."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._free: list[Connection] = []
        self._waiting: deque[asyncio.Future[Connection]] = deque()
        self.size = 0

    async def open(self, size: int) -> None:
        """Opens `size` connections instead of those that were open."""
        await self.close()
        for _ in range(size):
            self._free.append(await connect(self._dsn, application="baseline"))
            self.size += 1

    async def close(self) -> None:
        """Closes them all, each when it comes back."""
        while self.size:
            await (await self.take()).close()
            self.size -= 1

    async def take(self) -> Connection:
        """A connection, for `given_back`."""
        if self._free:
            return self._free.pop()
        turn: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give(turn.result())
            raise

    @contextmanager
    def given_back(self, connection: Connection) -> Generator[Connection]:
        """Gives it to the next who waits when the block ends."""
        try:
            yield connection
        finally:
            self._give(connection)

    def _give(self, connection: Connection) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        self._free.append(connection)
