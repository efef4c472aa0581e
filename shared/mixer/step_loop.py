"""How the copies of a service work on shared rows: each is claimed when due, and taken from one step to the next.

Each step is committed before the next begins, so another process can take up a row after any step, or in the middle.
"""

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections import Counter as Counts
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import ClassVar, Final, Generic, TypeVar

import structlog
from prometheus_client import Counter, Gauge

from shared.database.postgres import TRANSIENT_FAULTS
from shared.domain.ids import CommandId
from shared.domain.rejections import Rejection
from shared.mixer.claimed_rows import ClaimedRow, ClaimLost
from shared.mixer.jobcoin import NetworkUnavailable
from shared.mixer.ledger import CommandDecision, MixerLedger
from shared.mixer.settings import MixerSettings
from shared.mixer.store import ClaimStore
from shared.runtime.retry import backoff_s

log = structlog.get_logger()

ROWS: Final = Gauge(
    "mixer_rows", "Deposits, credits or payouts that are not finished, by kind and state", ["kind", "state"]
)
WAITING: Final = Gauge(
    "mixer_waiting", "Rows that wait for another try or are stuck, by kind and reason", ["kind", "reason"]
)
INTERRUPTED: Final = Counter("mixer_interrupted", "Rows whose work ended with a fault and is taken up later", ["kind"])
TICK_S: Final = 0.5
ROWS_MAX: Final = 16
BACKOFF_S_MAX: Final = 30.0
# A step that was refused again and again is tried more rarely: each try costs transfers, or a row of the journal.
REFUSED_BACKOFF_S_MAX: Final = 180.0
# Rejections that may be gone by themselves, or by what others do: then the step succeeds. The others need a decision.
HEALED_BY_TIME: Final = frozenset(
    {Rejection.ACCOUNT_FROZEN, Rejection.INSUFFICIENT_FUNDS, Rejection.LIMIT_EXCEEDED, Rejection.CANCELLED}
)
REASON_CHARACTERS_MAX: Final = 80
# Not ready when due rows were not looked for within this time.
LATE_S_MAX: Final = 10.0
# The work ends before the claim does, or two copies would send at once.
CLAIM_SHARE: Final = 0.8

R = TypeVar("R", bound=ClaimedRow)


def reason_class(reason: str) -> str:
    """The reason without what is never twice the same: of a fault as Python writes it, only the name."""
    name, bracket, _ = reason.partition("(")
    return (name if bracket and name.isidentifier() else reason)[:REASON_CHARACTERS_MAX]


async def wait_for_wake(wake: asyncio.Event, timeout_s: float) -> None:
    """Returns once `wake` is set or the time is up, and clears it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await wake.wait()
    wake.clear()


class ClaimDeadline:
    """Until when the work on a claimed row may go on, by the monotonic clock of this process."""

    def __init__(self, claim_s: float) -> None:
        self.allowed_s = claim_s * CLAIM_SHARE
        self._ends_s = asyncio.get_running_loop().time() + self.allowed_s

    def check(self) -> None:
        """Called before anything is sent, since the process may have been stopped. Raises ClaimLost."""
        if asyncio.get_running_loop().time() > self._ends_s:
            raise ClaimLost("the claim has run out")


class StepLoop(ABC, Generic[R]):
    """Looks for due rows of one kind again and again, and at once after `wake` is set; works on `ROWS_MAX` at a time.

    A row whose work fails stays claimed until its claim runs out, and is taken up again then. It stops no other row.
    `stuck` is the state of a row that waits for an operator.
    """

    stuck: ClassVar[StrEnum]

    def __init__(self, ledger: MixerLedger, store: ClaimStore[R], settings: MixerSettings) -> None:
        self._ledger = ledger
        self._store = store
        self._kind = store.lifecycle.noun
        self._settings = settings
        # Why rows wait or are stuck, as far as it was logged.
        self._reasons: frozenset[str] = frozenset()
        self._rows = 0
        self._is_claiming = False
        self._is_draining = False
        self._looked_s = time.monotonic()
        self.wake = asyncio.Event()
        self._ended = asyncio.Event()

    @abstractmethod
    async def step(self, row: R, deadline: ClaimDeadline) -> R | None:
        """Takes one step. Returns the row after it, or None if the row is finished, was released or is stuck."""

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await wait_for_wake(self.wake, TICK_S)
                if self._is_draining:
                    continue
                if self._rows < ROWS_MAX:
                    await self._claim(group)
                else:  # the claims of the rows that are worked on bound how long that takes
                    self._looked_s = time.monotonic()

    async def drain(self, timeout_s: float) -> None:
        """Claims no more rows and waits for those that are worked on. What takes longer stays claimed for a while."""
        self._is_draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._rows or self._is_claiming:
                    self._ended.clear()
                    await self._ended.wait()

    def missing(self) -> dict[str, str]:
        """What is not ready, and why: the rows, if none could be looked for lately."""
        late_s = time.monotonic() - self._looked_s
        return {self._kind: f"due rows were last looked for {late_s:.0f} s ago"} if late_s > LATE_S_MAX else {}

    async def set_gauges(self) -> None:
        """Raises what is in postgres.TRANSIENT_FAULTS."""
        counts = await self._store.counts()
        for state, following in self._store.lifecycle.next_states.items():
            if following:
                ROWS.labels(self._kind, state.value).set(counts.get(state.value, 0))
        self._note_reasons(await self._store.reasons())

    def _note_reasons(self, counts: Mapping[str, int]) -> None:
        """Shows why rows wait or are stuck. Each reason has one line in the log when it begins and one when it ends."""
        waiting = Counts[str]()
        for reason, rows in counts.items():
            waiting[reason_class(reason)] += rows
        for reason in waiting.keys() - self._reasons:
            log.error("rows.wait", kind=self._kind, reason=reason, rows=waiting[reason])
        for reason in self._reasons - waiting.keys():
            log.info("rows.wait_no_more", kind=self._kind, reason=reason)
        for reason in waiting.keys() | self._reasons:
            WAITING.labels(self._kind, reason).set(waiting[reason])
        self._reasons = frozenset(waiting)

    async def wait(self, row: R, reason: str, *, s_max: float = BACKOFF_S_MAX) -> None:
        """Releases the row for a time that grows with its attempts, and keeps the reason, which anyone may read."""
        await self._store.release(row, backoff_s(row.attempts, s_max=s_max), reason)

    async def posted(self, row: R, command: str, decision: CommandDecision | None) -> CommandId | None:
        """The id of this command of the row's step, if the ledger posted it. If not, the row waits or is stuck."""
        if decision is None:  # unknown: the same command is sent again, for as long as it takes
            await self.wait(replace(row, attempts=row.attempts + 1), f"the ledger has not answered the {command}")
            return None
        if decision.code is not None:
            await self._store.next_attempt(row, command)
            reason = f"the {command} was rejected: {decision.code}"
            await (self.fail if decision.code in HEALED_BY_TIME else self.stop)(row, reason)
            return None
        return decision.id

    async def fail(self, row: R, reason: str) -> None:
        """Counts a failed attempt of the row's step, which is tried again later, however often it fails.

        Most of what stops a step is healed by time: a house that is short, an account that is frozen, an outage.
        """
        row = replace(row, attempts=row.attempts + 1)
        log.debug("row.waits", kind=self._kind, id=row.id, step=row.state, attempts=row.attempts, reason=reason)
        await self.wait(row, reason, s_max=REFUSED_BACKOFF_S_MAX)

    async def stop(self, row: R, reason: str) -> None:
        """The row waits for an operator, who is told why: no time heals what stops it."""
        await self._store.move(row, replace(row, state=self.stuck, attempts=0), reason)
        log.error("row.stuck", kind=self._kind, id=row.id, step=row.state, reason=reason)

    async def _claim(self, group: asyncio.TaskGroup) -> None:
        # Begins before the claim does, so that it is never later than the claim's end.
        deadline = ClaimDeadline(self._settings.claim_s)
        self._is_claiming = True
        try:
            rows = await self._store.claim(ROWS_MAX - self._rows, self._settings.claim_s)
        except TRANSIENT_FAULTS as fault:
            log.warning("rows.not_claimed", kind=self._kind, fault=repr(fault))
            return
        finally:
            self._is_claiming = False
            self._ended.set()
        self._looked_s = time.monotonic()
        for row in rows:
            self._rows += 1
            group.create_task(self._work(row, deadline), name=f"{self._kind} {row.id}")

    async def _work(self, row: R, deadline: ClaimDeadline) -> None:
        try:
            async with asyncio.timeout(deadline.allowed_s):
                await self._advance(row, deadline)
        except (ClaimLost, TimeoutError, *TRANSIENT_FAULTS) as fault:
            INTERRUPTED.labels(self._kind).inc()
            log.warning("row.interrupted", kind=self._kind, id=row.id, fault=repr(fault))
        except Exception:
            INTERRUPTED.labels(self._kind).inc()
            log.exception("row.failed", kind=self._kind, id=row.id)
        finally:
            self._rows -= 1
            self._ended.set()
            self.wake.set()

    async def _advance(self, row: R, deadline: ClaimDeadline) -> None:
        """Takes steps until the row is finished or has to wait."""
        current: R | None = row
        while current is not None:
            try:
                current = await self.step(current, deadline)
            except NetworkUnavailable as fault:
                log.debug("row.waits", kind=self._kind, id=row.id, step=current.state, reason=str(fault))
                await self.wait(current, str(fault))
                return
