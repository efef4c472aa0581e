"""How claimed rows go from step to step, and how their transfers end, without a database and a network."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from services.deposit_poller.core.sweeps import SWEEP, SWEEP_LIFECYCLE, Sweep, SweepState
from services.deposit_poller.store.sweeps import SweepStore
from services.deposit_poller.sweeps import Sweeper
from shared.domain.ids import CommandId
from shared.mixer.claimed_rows import ClaimLost, Intent, Leg
from shared.mixer.jobcoin import JobcoinNetwork, NetworkUnavailable, TransferRefused, TransferUnknown
from shared.mixer.jobcoin_rows import Address, AddressView, Transfer
from shared.mixer.ledger import CommandDecision, MixerLedger
from shared.mixer.settings import MixerSettings
from shared.mixer.step_loop import ClaimDeadline, reason_class
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


async def test_a_step_that_fails_is_tried_for_ever_since_time_may_heal_what_stops_it() -> None:
    store = MemoryStore(PLANNED)
    loop = Loop(store)
    for _ in range(100):
        await loop.fail(store.row, "no luck")
    assert store.events == ["released"] * 100
    assert store.row.attempts == 100


async def test_a_network_that_is_away_costs_no_attempt() -> None:
    store = MemoryStore(replace(PLANNED, attempts=2))
    loop = Loop(store)

    async def away(row: Sweep, _: ClaimDeadline) -> Sweep | None:
        raise NetworkUnavailable(row.id)

    loop.take = away
    await loop._advance(store.row, ClaimDeadline(30))
    assert (store.events, store.row.attempts) == (["released"], 2)


async def test_a_credit_whose_outcome_is_unknown_is_asked_about_again() -> None:
    class UnknownLedger:
        async def credit(self, *_: object) -> None:
            return None

    store = MemoryStore(replace(PLANNED, state=SweepState.SEEN, attempts=100, credit=5))
    sweeper = Sweeper(
        cast("JobcoinNetwork", None),
        cast("MixerLedger", UnknownLedger()),
        cast("SweepStore", store),
        SETTINGS,
    )
    await sweeper._advance(store.row, ClaimDeadline(30))
    assert store.events == ["released"]


async def test_a_drain_waits_for_a_claim_under_way_and_for_the_rows_that_it_brings() -> None:
    """Else they would stay claimed, and nobody would take them up before the claim runs out."""
    store = MemoryStore(PLANNED)
    loop = Loop(store)

    async def released(row: Sweep, _: ClaimDeadline) -> None:
        await loop.wait(row, "no news")

    loop.take = released
    running = asyncio.create_task(loop.run())  # noqa: TID251 - cancelled below, as a service cancels it
    await store.claiming.wait()
    draining = asyncio.create_task(loop.drain(5))  # noqa: TID251 - awaited below
    await asyncio.sleep(0)
    assert not draining.done()
    store.answer.set()
    await draining
    assert store.events == ["released"]
    running.cancel()


async def test_a_command_is_repeated_while_it_is_unknown_and_made_anew_once_it_is_rejected() -> None:
    store = MemoryStore(replace(PLANNED, attempts=100))
    loop = Loop(store)
    assert await loop.posted(store.row, "credit", None) is None
    assert store.events == ["released"]
    assert await loop.posted(store.row, "credit", CommandDecision(CommandId("c"), None)) == "c"
    store.row, store.events = PLANNED, []
    assert await loop.posted(store.row, "credit", CommandDecision(CommandId("c"), "account_frozen")) is None
    assert store.events == ["next credit", "released"]


async def test_what_no_time_heals_is_stuck_at_once() -> None:
    store = MemoryStore(PLANNED)
    assert await Loop(store).posted(store.row, "credit", CommandDecision(CommandId("c"), "account_closed")) is None
    assert store.events == ["next credit", "stuck: the credit was rejected: account_closed"]


def test_reasons_are_told_apart_by_what_is_the_same_in_each() -> None:
    assert reason_class("TimeoutError()") == "TimeoutError"
    assert reason_class("ClientConnectorError(ConnectionKey(host='a', port=1))") == "ClientConnectorError"
    assert reason_class("the transfer (fund) was refused") == "the transfer (fund) was refused"


@pytest.mark.parametrize("fault", [None, TransferUnknown("cut")])
async def test_a_transfer_that_is_seen_was_applied_whatever_was_said(fault: Exception | None) -> None:
    store, network = MemoryStore(PLANNED), MemoryNetwork([RECEIVED], fault)
    if fault is not None:
        network.rows.append(SWEPT)
    row = await Loop(store, network).send(PLANNED, SWEEP, ClaimDeadline(30))
    assert row == replace(PLANNED, state=SweepState.SEEN)
    assert store.events == ["sending", "seen", "seen"]


async def test_a_refused_transfer_is_absent_at_once() -> None:
    store, network = MemoryStore(PLANNED), MemoryNetwork([RECEIVED], TransferRefused("422"))
    assert await Loop(store, network).send(PLANNED, SWEEP, ClaimDeadline(30)) is None
    assert store.events == ["sending", "refused", "planned", "released"]
    assert store.row == replace(PLANNED, attempts=1)


async def test_an_unanswered_transfer_is_looked_for_until_it_is_settled_and_not_sent_meanwhile() -> None:
    store, network = MemoryStore(PLANNED), MemoryNetwork([RECEIVED], TransferUnknown("cut"))
    loop = Loop(store, network)
    assert [await loop.send(PLANNED, SWEEP, ClaimDeadline(30)), await loop.read_end(SENDING, SWEEP)] == [None, None]
    store.is_settled = True
    assert await loop.read_end(SENDING, SWEEP) is None
    assert store.events == ["sending", "released", "released", "absent", "planned", "released"]
    assert network.sent == 1


async def test_a_reading_that_does_not_agree_with_itself_proves_no_absence() -> None:
    store, network = MemoryStore(SENDING, is_settled=True), MemoryNetwork([RECEIVED], hidden=1)
    assert await Loop(store, network).read_end(SENDING, SWEEP) is None
    assert store.events == ["released"]
    refused = MemoryNetwork([RECEIVED], TransferRefused("422"), hidden=1)
    assert await Loop(MemoryStore(PLANNED), refused).send(PLANNED, SWEEP, ClaimDeadline(30)) is None
    network.rows.append(SWEPT)
    assert await Loop(store, network).read_end(SENDING, SWEEP) == replace(PLANNED, state=SweepState.SEEN)


async def test_a_row_of_another_intent_is_not_taken_for_this_one() -> None:
    store, network = MemoryStore(SENDING), MemoryNetwork([RECEIVED, SWEPT])
    store.taken = {1}
    assert await Loop(store, network).read_end(SENDING, SWEEP) is None
    assert store.events == ["released"]


async def test_nothing_is_sent_while_an_equal_transfer_is_open() -> None:
    store, network = MemoryStore(PLANNED, is_equal_open=True), MemoryNetwork([RECEIVED])
    assert await Loop(store, network).send(PLANNED, SWEEP, ClaimDeadline(30)) is None
    assert (store.events, network.sent) == (["released"], 0)


async def test_nothing_is_sent_once_the_claim_may_be_another_s() -> None:
    store, network = MemoryStore(PLANNED), MemoryNetwork([RECEIVED])
    with pytest.raises(ClaimLost):
        await Loop(store, network).send(PLANNED, SWEEP, ClaimDeadline(-1))
    assert (store.events, network.sent) == (["sending"], 0)


def sweeper_of(store: MemoryStore, network: MemoryNetwork) -> Sweeper:
    return Sweeper(cast("JobcoinNetwork", network), cast("MixerLedger", None), cast("SweepStore", store), SETTINGS)


async def test_coins_that_went_elsewhere_need_a_decision_and_a_deposit_that_is_not_shown_needs_time() -> None:
    store, network = MemoryStore(PLANNED), MemoryNetwork([RECEIVED, Transfer(ADDRESS, CUSTOMER, 5)])
    assert await sweeper_of(store, network).step(PLANNED, ClaimDeadline(30)) is None
    assert store.events == ["stuck: coins of this address went elsewhere: it holds less than was deposited"]
    store, network = MemoryStore(PLANNED), MemoryNetwork([])
    assert await sweeper_of(store, network).step(PLANNED, ClaimDeadline(30)) is None
    assert store.events == ["released"]


async def test_a_sweep_that_came_late_is_taken_for_the_next_equal_one_and_nothing_is_sent() -> None:
    store, network = MemoryStore(PLANNED), MemoryNetwork([RECEIVED, SWEPT])
    assert await sweeper_of(store, network).step(PLANNED, ClaimDeadline(30)) == replace(PLANNED, state=SweepState.SEEN)
    assert network.sent == 0


@pytest.mark.parametrize("row", [PLANNED, replace(PLANNED, state=SweepState.SEEN, credit=5)])
async def test_nothing_is_swept_or_credited_while_the_list_lacks_rows_of_the_address(row: Sweep) -> None:
    store, network = MemoryStore(row, is_disputed_now=True), MemoryNetwork([RECEIVED])
    await sweeper_of(store, network)._advance(row, ClaimDeadline(30))
    assert (store.events, network.sent) == (["released"], 0)
