"""Shares of a connection pool, so that the reads of some clients leave connections for others and for writes."""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

# The principal for whom the current task reads; None while it serves a write.
READER: Final[ContextVar[str | None]] = ContextVar("reader", default=None)


@dataclass(slots=True, eq=False)
class _Share:
    free: asyncio.Semaphore
    users: int = 0


@dataclass(slots=True, eq=False)
class Shares:
    """All reads together use at most `together_max` connections at once, those of one principal `each_max`."""

    together_max: int
    each_max: int
    _free: asyncio.Semaphore = field(init=False)
    _of: dict[str, _Share] = field(default_factory=dict[str, _Share])

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.together_max)

    async def take(self, reader: str, within_s: float) -> None:
        """Waits until the reader may use a connection; follow with `give_back`. Raises TimeoutError."""
        share = self._of.get(reader)
        if share is None:
            share = self._of[reader] = _Share(asyncio.Semaphore(self.each_max))
        share.users += 1
        try:
            if share.free.locked() or self._free.locked():
                async with asyncio.timeout(within_s):
                    await self._acquire(share)
            else:
                await self._acquire(share)
        except BaseException:
            self._leave(reader, share)
            raise

    def give_back(self, reader: str) -> None:
        """Ends what `take` began."""
        share = self._of[reader]
        self._free.release()
        share.free.release()
        self._leave(reader, share)

    async def _acquire(self, share: _Share) -> None:
        await share.free.acquire()
        try:
            await self._free.acquire()
        except BaseException:
            share.free.release()
            raise

    def _leave(self, reader: str, share: _Share) -> None:
        share.users -= 1
        if share.users == 0:
            del self._of[reader]
