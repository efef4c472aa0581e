"""How claimed rows go from step to step, without a database and a network."""

import asyncio
from dataclasses import replace
from typing import cast

from services.deposit_poller.core.sweeps import Sweep, SweepState
from services.deposit_poller.store.sweeps import SweepStore
from services.deposit_poller.sweeps import Sweeper
from shared.domain.ids import CommandId
from shared.mixer.jobcoin import JobcoinNetwork, NetworkUnavailable
from shared.mixer.ledger import CommandDecision, MixerLedger
from shared.mixer.step_loop import ClaimDeadline, reason_class
from tests.unit.mixer_rows import (
    PLANNED,
    SETTINGS,
    Loop,
    MemoryStore,
)


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
