"""Work that lies in rows: claimed when due, one task for each piece, woken or looked for."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

import structlog
from prometheus_client import Counter

from shared.db import TRANSIENT_FAULTS

log = structlog.get_logger()

WORK_FAILED: Final = Counter("work_failed", "Pieces of work that ended with a fault and will be tried again", ["work"])
# A claim outlives the work that is done under it, or two copies would send at once.
CLAIM_SHARE: Final = 0.8


BACKOFF_MS_MIN: Final = 200
BACKOFF_MS_MAX: Final = 30_000


def backoff_of_round_s(rounds: int) -> float:
    """Seconds to wait after a step was tried in vain `rounds` times: capped exponential with full jitter."""
    return random.uniform(BACKOFF_MS_MIN / 2, min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2.0 ** min(rounds, 10))) / 1_000  # noqa: S311 - jitter


class ClaimLost(Exception):
    """Somebody else works on this row by now, or its claim is about to run out: nothing more may be done for it."""


class Piece(Protocol):
    """A claimed row."""

    @property
    def id(self) -> str:
        """Its key."""
        ...


P = TypeVar("P", bound=Piece)


class Deadline:
    """Until when the work of a claim may go on, by the monotonic clock of this process."""

    def __init__(self, claim_s: float) -> None:
        self.allowed_s = claim_s * CLAIM_SHARE
        self._ends_s = asyncio.get_running_loop().time() + self.allowed_s

    def check(self) -> None:
        """Before anything leaves: a process that was stopped wakes up here. Raises ClaimLost."""
        if asyncio.get_running_loop().time() > self._ends_s:
            raise ClaimLost("the claim has run out")


class WorkLoop(Generic[P]):
    """Looks for due work every `tick_s`, at once after `wake`, and does at most `pieces_max` at a time.

    What fails stays claimed until its claim runs out, and is tried again then; it stops no other piece.
    """

    def __init__(
        self,
        name: str,
        *,
        claim: Callable[[int], Awaitable[Sequence[P]]],
        do: Callable[[P, Deadline], Awaitable[None]],
        claim_s: float,
        tick_s: float = 0.5,
        pieces_max: int = 16,
    ) -> None:
        self._name = name
        self._claim = claim
        self._do = do
        self._claim_s = claim_s
        self._tick_s = tick_s
        self._pieces_max = pieces_max
        self._doing = 0
        self._is_draining = False
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()

    def wake(self) -> None:
        """There is work now."""
        self._wake.set()

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._tick_s):
                        await self._wake.wait()
                self._wake.clear()
                if self._doing < self._pieces_max and not self._is_draining:
                    await self._start(group)

    async def drain(self, timeout_s: float) -> None:
        """Takes no more work and lets what is under way end: what is cut off stays claimed for a while."""
        self._is_draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._doing:
                    self._ended.clear()
                    await self._ended.wait()

    async def _start(self, group: asyncio.TaskGroup) -> None:
        deadline = Deadline(self._claim_s)  # before the claim is made: never later than it
        try:
            pieces = await self._claim(self._pieces_max - self._doing)
        except TRANSIENT_FAULTS as fault:
            log.warning("work.not_claimed", work=self._name, fault=repr(fault))
            return
        for piece in pieces:
            self._doing += 1
            group.create_task(self._guarded(piece, deadline), name=f"{self._name} {piece.id}")

    async def _guarded(self, piece: P, deadline: Deadline) -> None:
        try:
            async with asyncio.timeout(deadline.allowed_s):
                await self._do(piece, deadline)
        except (ClaimLost, TimeoutError, *TRANSIENT_FAULTS) as fault:
            WORK_FAILED.labels(self._name).inc()
            log.warning("work.interrupted", work=self._name, piece=piece.id, fault=repr(fault))
        except Exception:
            WORK_FAILED.labels(self._name).inc()
            log.exception("work.failed", work=self._name, piece=piece.id)
        finally:
            self._doing -= 1
            self._ended.set()
            self._wake.set()
