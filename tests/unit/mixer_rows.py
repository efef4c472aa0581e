"""A row, its store, its network and its loop, in memory."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import cast

from services.deposit_poller.core.sweeps import SWEEP, SWEEP_LIFECYCLE, Sweep, SweepState
from shared.mixer.claimed_rows import Intent, Leg
from shared.mixer.jobcoin import JobcoinNetwork
from shared.mixer.jobcoin_rows import Address, AddressView, Transfer
from shared.mixer.ledger import MixerLedger
from shared.mixer.settings import MixerSettings
from shared.mixer.step_loop import ClaimDeadline
from shared.mixer.store import EqualTransferOpen, IntentStore
from shared.mixer.transfers import TransferLoop
from shared.runtime.fault_points import FaultPoint

CUSTOMER, ADDRESS, HOUSE = Address("customer"), Address("deposit-address"), Address("tellerline-house")
RECEIVED = Transfer(CUSTOMER, ADDRESS, 5)
SWEPT = Transfer(ADDRESS, HOUSE, 5)
PLANNED = Sweep(
    id="s", claim=1, state=SweepState.PLANNED, attempts=0, mix="m", address=ADDRESS, units=5, credit_attempt=1
)
SENDING = replace(PLANNED, state=SweepState.SENDING)
SETTINGS = MixerSettings.model_construct(claim_s=30.0, settle_s=15.0)


@dataclass
class MemoryStore:
    """One row and its intent."""

    row: Sweep
    is_settled: bool = False
    is_equal_open: bool = False
    is_disputed_now: bool = False
    taken: set[int] = field(default_factory=set[int])
    events: list[str] = field(default_factory=list[str])
    # The database has the claim already, and has not answered yet.
    claiming: asyncio.Event = field(default_factory=asyncio.Event)
    answer: asyncio.Event = field(default_factory=asyncio.Event)
    lifecycle = SWEEP_LIFECYCLE

    async def claim(self, _: int, __: float) -> list[Sweep]:
        self.claiming.set()
        await self.answer.wait()
        return [self.row]

    async def move(self, before: Sweep, after: Sweep, reason: str | None = None) -> Sweep:
        assert before.state is self.row.state
        self.row = after
        self.events.append(f"{after.state}: {reason}" if reason else after.state.value)
        return after

    async def release(self, row: Sweep, wait_s: float, reason: str) -> None:
        assert 0 < wait_s <= 180
        assert reason
        self.row = replace(self.row, attempts=row.attempts)
        self.events.append("released")

    async def next_attempt(self, _: Sweep, command: str) -> None:
        self.events.append(f"next {command}")

    async def open_intent(self, before: Sweep, after: Sweep, *_: object) -> None:
        if self.is_equal_open:
            raise EqualTransferOpen
        await self.move(before, after)

    async def read_intent(self, _: Sweep) -> Intent:
        return Intent("i", 0.0 if self.is_settled else 15.0)

    async def end_intent(self, before: Sweep, after: Sweep, _: Intent, ended: str, __: int | None) -> Sweep:
        self.events.append(ended)
        return await self.move(before, after)

    async def is_disputed(self, _: Sweep) -> bool:
        return self.is_disputed_now

    async def swept_units(self, _: Sweep) -> int:
        return 0

    async def taken_rows(self, _: Transfer) -> set[int]:
        return self.taken


@dataclass
class MemoryNetwork:
    """An address with rows, whose balance has `hidden` units more; a transfer meets `fault`, or is applied."""

    rows: list[Transfer]
    fault: Exception | None = None
    sent: int = 0
    hidden: int = 0

    async def address(self, address: Address) -> AddressView:
        units = sum(row.units if row.destination == address else -row.units for row in self.rows)
        return AddressView(address, units + self.hidden, Counter(self.rows))

    async def send(self, _: Transfer) -> None:
        self.sent += 1
        if self.fault is not None:
            raise self.fault
        self.rows.append(SWEPT)


class Loop(TransferLoop[Sweep]):
    """A loop whose steps are those of a test."""

    stuck = SweepState.STUCK
    fault_points = (
        FaultPoint.POLLER_AFTER_SWEEP_INTENT,
        FaultPoint.POLLER_AFTER_SWEEP_SENT,
        FaultPoint.POLLER_AFTER_SWEEP_SEEN,
    )

    def __init__(self, store: MemoryStore, network: MemoryNetwork | None = None) -> None:
        super().__init__(
            cast("JobcoinNetwork", network),
            cast("MixerLedger", None),
            cast("IntentStore[Sweep]", store),
            SETTINGS,
        )
        self.take: Callable[[Sweep, ClaimDeadline], Awaitable[Sweep | None]] | None = None

    async def step(self, row: Sweep, deadline: ClaimDeadline) -> Sweep | None:
        assert self.take is not None
        return await self.take(row, deadline)

    def transfer(self, row: Sweep, leg: Leg) -> Transfer:
        assert leg is SWEEP
        return Transfer(ADDRESS, HOUSE, row.units)
