"""How claimed rows go from step to step, and how their transfers end, without a database and a network."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from services.deposit_poller.core.deposits import DEPOSIT_LIFECYCLE, SWEEP, Deposit, DepositState
from services.deposit_poller.deposits import Sweeper
from shared.domain.ids import CommandId
from shared.mixer.claimed_rows import ClaimLost, Intent, Leg
from shared.mixer.jobcoin import JobcoinNetwork, NetworkUnavailable, TransferRefused, TransferUnknown
from shared.mixer.jobcoin_rows import Address, AddressView, ListedRow, RowId, Transfer, row_id
from shared.mixer.ledger import CommandDecision, MixerLedger
from shared.mixer.settings import MixerSettings
from shared.mixer.step_loop import ClaimDeadline, reason_class
from shared.mixer.store import EqualTransferOpen, IntentStore
from shared.mixer.transfers import TransferLoop
from shared.runtime.fault_points import FaultPoint

NOON = "2026-11-21T12:00:00.000Z"
CUSTOMER, ADDRESS, HOUSE = Address("customer"), Address("deposit-address"), Address("house")
RECEIVED = ListedRow(NOON, CUSTOMER, ADDRESS, 5)
SWEPT = ListedRow(NOON, ADDRESS, HOUSE, 5)
SEEN = Deposit(
    id="d", claim=1, state=DepositState.SEEN, attempts=0, mix="m", listed=RECEIVED, minor=5, credit_attempt=1
)
SWEEPING = replace(SEEN, state=DepositState.SWEEPING)
SETTINGS = MixerSettings.model_construct(claim_s=30.0, settle_s=15.0)


@dataclass
class MemoryStore:
    """One row and its intent."""

    row: Deposit
    is_settled: bool = False
    is_equal_open: bool = False
    taken: set[str] = field(default_factory=set[str])
    events: list[str] = field(default_factory=list[str])
    # The database has the claim already, and has not answered yet.
    claiming: asyncio.Event = field(default_factory=asyncio.Event)
    answer: asyncio.Event = field(default_factory=asyncio.Event)
    lifecycle = DEPOSIT_LIFECYCLE

    async def claim(self, _: int, __: float) -> list[Deposit]:
        self.claiming.set()
        await self.answer.wait()
        return [self.row]

    async def move(self, before: Deposit, after: Deposit, reason: str | None = None) -> Deposit:
        assert before.state is self.row.state
        self.row = after
        self.events.append(f"{after.state}: {reason}" if reason else after.state.value)
        return after

    async def release(self, row: Deposit, wait_s: float, reason: str) -> None:
        assert 0 < wait_s <= 180
        assert reason
        self.row = replace(self.row, attempts=row.attempts)
        self.events.append("released")

    async def next_attempt(self, _: Deposit, command: str) -> None:
        self.events.append(f"next {command}")

    async def open_intent(self, before: Deposit, after: Deposit, *_: object) -> None:
        if self.is_equal_open:
            raise EqualTransferOpen
        await self.move(before, after)

    async def read_intent(self, _: Deposit) -> Intent:
        return Intent("i", 0.0 if self.is_settled else 15.0)

    async def end_intent(self, before: Deposit, after: Deposit, _: Intent, ended: str, __: RowId | None) -> None:
        self.events.append(ended)
        await self.move(before, after)

    async def taken_rows(self, _: Transfer) -> set[str]:
        return self.taken


@dataclass
class MemoryNetwork:
    """An address with rows, whose balance has `hidden` units more; a transfer meets `fault`, or is applied."""

    rows: list[ListedRow]
    fault: Exception | None = None
    sent: int = 0
    hidden: int = 0
    instance: str = "puppy"

    async def address(self, address: Address) -> AddressView:
        units = sum(row.units if row.destination == address else -row.units for row in self.rows)
        return AddressView(address, units + self.hidden, tuple(self.rows))

    async def send(self, _: Transfer) -> None:
        self.sent += 1
        if self.fault is not None:
            raise self.fault
        self.rows.append(SWEPT)


class Loop(TransferLoop[Deposit]):
    """A loop whose steps are those of a test."""

    stuck = DepositState.STUCK
    fault_points = (
        FaultPoint.POLLER_AFTER_SWEEP_INTENT,
        FaultPoint.POLLER_AFTER_SWEEP_SENT,
        FaultPoint.POLLER_AFTER_SWEEP_SEEN,
    )

    def __init__(self, store: MemoryStore, network: MemoryNetwork | None = None) -> None:
        super().__init__(
            cast("JobcoinNetwork", network),
            cast("MixerLedger", None),
            cast("IntentStore[Deposit]", store),
            SETTINGS,
        )
        self.take: Callable[[Deposit, ClaimDeadline], Awaitable[Deposit | None]] | None = None

    async def step(self, row: Deposit, deadline: ClaimDeadline) -> Deposit | None:
        assert self.take is not None
        return await self.take(row, deadline)

    def transfer(self, row: Deposit, leg: Leg) -> Transfer:
        assert leg is SWEEP
        return Transfer(ADDRESS, HOUSE, row.listed.units)


async def test_a_step_that_fails_is_tried_for_ever_since_time_may_heal_what_stops_it() -> None:
    store = MemoryStore(SEEN)
    loop = Loop(store)
    for _ in range(100):
        await loop.fail(store.row, "no luck")
    assert store.events == ["released"] * 100
    assert store.row.attempts == 100


async def test_a_network_that_is_away_costs_no_attempt() -> None:
    store = MemoryStore(replace(SEEN, attempts=2))
    loop = Loop(store)

    async def away(row: Deposit, _: ClaimDeadline) -> Deposit | None:
        raise NetworkUnavailable(row.id)

    loop.take = away
    await loop._advance(store.row, ClaimDeadline(30))
    assert (store.events, store.row.attempts) == (["released"], 2)


async def test_a_credit_whose_outcome_is_unknown_is_asked_about_again() -> None:
    class UnknownLedger:
        async def credit(self, *_: object) -> None:
            return None

    store = MemoryStore(replace(SEEN, state=DepositState.SWEPT, attempts=100))
    sweeper = Sweeper(
        cast("JobcoinNetwork", None),
        cast("MixerLedger", UnknownLedger()),
        cast("IntentStore[Deposit]", store),
        SETTINGS,
    )
    await sweeper._advance(store.row, ClaimDeadline(30))
    assert store.events == ["released"]


async def test_a_drain_waits_for_a_claim_under_way_and_for_the_rows_that_it_brings() -> None:
    """Else they would stay claimed, and nobody would take them up before the claim runs out."""
    store = MemoryStore(SEEN)
    loop = Loop(store)

    async def released(row: Deposit, _: ClaimDeadline) -> None:
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
    store = MemoryStore(replace(SEEN, attempts=100))
    loop = Loop(store)
    assert await loop.posted(store.row, "credit", None) is None
    assert store.events == ["released"]
    assert await loop.posted(store.row, "credit", CommandDecision(CommandId("c"), None)) == "c"
    store.row, store.events = SEEN, []
    assert await loop.posted(store.row, "credit", CommandDecision(CommandId("c"), "account_frozen")) is None
    assert store.events == ["next credit", "released"]


async def test_what_no_time_heals_is_stuck_at_once() -> None:
    store = MemoryStore(SEEN)
    assert await Loop(store).posted(store.row, "credit", CommandDecision(CommandId("c"), "account_closed")) is None
    assert store.events == ["next credit", "stuck: the credit was rejected: account_closed"]


def test_reasons_are_told_apart_by_what_is_the_same_in_each() -> None:
    assert reason_class("TimeoutError()") == "TimeoutError"
    assert reason_class("ClientConnectorError(ConnectionKey(host='a', port=1))") == "ClientConnectorError"
    assert reason_class("the transfer (fund) was refused") == "the transfer (fund) was refused"


@pytest.mark.parametrize("fault", [None, TransferUnknown("cut")])
async def test_a_transfer_that_is_seen_was_applied_whatever_was_said(fault: Exception | None) -> None:
    store, network = MemoryStore(SEEN), MemoryNetwork([RECEIVED], fault)
    if fault is not None:
        network.rows.append(SWEPT)
    row = await Loop(store, network).send(SEEN, SWEEP, ClaimDeadline(30))
    assert row == replace(SEEN, state=DepositState.SWEPT)
    assert store.events == ["sweeping", "seen", "swept"]


async def test_a_refused_transfer_is_absent_at_once() -> None:
    store, network = MemoryStore(SEEN), MemoryNetwork([RECEIVED], TransferRefused("422"))
    assert await Loop(store, network).send(SEEN, SWEEP, ClaimDeadline(30)) is None
    assert store.events == ["sweeping", "refused", "seen", "released"]
    assert store.row == replace(SEEN, attempts=1)


async def test_an_unanswered_transfer_is_looked_for_until_it_is_settled_and_not_sent_meanwhile() -> None:
    store, network = MemoryStore(SEEN), MemoryNetwork([RECEIVED], TransferUnknown("cut"))
    loop = Loop(store, network)
    assert await loop.send(SEEN, SWEEP, ClaimDeadline(30)) is None
    assert await loop.read_end(SWEEPING, SWEEP) is None
    store.is_settled = True
    assert await loop.read_end(SWEEPING, SWEEP) is None
    assert store.events == ["sweeping", "released", "released", "absent", "seen", "released"]
    assert network.sent == 1


async def test_a_reading_that_does_not_agree_with_itself_proves_no_absence() -> None:
    store, network = MemoryStore(SWEEPING, is_settled=True), MemoryNetwork([RECEIVED], hidden=1)
    assert await Loop(store, network).read_end(SWEEPING, SWEEP) is None
    assert store.events == ["released"]
    refused = MemoryNetwork([RECEIVED], TransferRefused("422"), hidden=1)
    assert await Loop(MemoryStore(SEEN), refused).send(SEEN, SWEEP, ClaimDeadline(30)) is None
    network.rows.append(SWEPT)
    assert await Loop(store, network).read_end(SWEEPING, SWEEP) == replace(SEEN, state=DepositState.SWEPT)


async def test_a_row_of_another_intent_is_not_taken_for_this_one() -> None:
    store, network = MemoryStore(SWEEPING), MemoryNetwork([RECEIVED, SWEPT])
    store.taken = {row_id("puppy", SWEPT, 1)}
    assert await Loop(store, network).read_end(SWEEPING, SWEEP) is None
    assert store.events == ["released"]


async def test_nothing_is_sent_while_an_equal_transfer_is_open() -> None:
    store, network = MemoryStore(SEEN, is_equal_open=True), MemoryNetwork([RECEIVED])
    assert await Loop(store, network).send(SEEN, SWEEP, ClaimDeadline(30)) is None
    assert (store.events, network.sent) == (["released"], 0)


async def test_nothing_is_sent_once_the_claim_may_be_another_s() -> None:
    store, network = MemoryStore(SEEN), MemoryNetwork([RECEIVED])
    with pytest.raises(ClaimLost):
        await Loop(store, network).send(SEEN, SWEEP, ClaimDeadline(-1))
    assert (store.events, network.sent) == (["sweeping"], 0)
