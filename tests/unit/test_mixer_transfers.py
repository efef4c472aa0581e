"""How the transfers of claimed rows end, without a database and a network."""

from dataclasses import replace
from typing import cast

import pytest

from services.deposit_poller.core.sweeps import SWEEP, Sweep, SweepState
from services.deposit_poller.store.sweeps import SweepStore
from services.deposit_poller.sweeps import Sweeper
from shared.mixer import transfers
from shared.mixer.claimed_rows import ClaimLost
from shared.mixer.jobcoin import JobcoinNetwork, TransferRefused, TransferUnknown
from shared.mixer.jobcoin_rows import Transfer
from shared.mixer.ledger import MixerLedger
from shared.mixer.step_loop import ClaimDeadline
from tests.unit.mixer_rows import (
    ADDRESS,
    CUSTOMER,
    PLANNED,
    RECEIVED,
    SENDING,
    SETTINGS,
    SWEPT,
    Loop,
    MemoryNetwork,
    MemoryStore,
)


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


async def test_a_reading_that_does_not_agree_with_itself_proves_neither_absence_nor_presence() -> None:
    store, network = MemoryStore(SENDING, is_settled=True), MemoryNetwork([RECEIVED], hidden=1)
    assert await Loop(store, network).read_end(SENDING, SWEEP) is None
    assert store.events == ["released"]
    refused = MemoryNetwork([RECEIVED], TransferRefused("422"), hidden=1)
    assert await Loop(MemoryStore(PLANNED), refused).send(PLANNED, SWEEP, ClaimDeadline(30)) is None
    network.rows.append(SWEPT)
    network.hidden = 10  # as if it were listed twice, and applied once
    assert await Loop(store, network).read_end(SENDING, SWEEP) is None
    network.hidden = 0
    assert await Loop(store, network).read_end(SENDING, SWEEP) == replace(PLANNED, state=SweepState.SEEN)
    assert store.events == ["released", "released", "seen", "seen"]


async def test_a_row_of_another_intent_is_not_taken_for_this_one() -> None:
    store, network = MemoryStore(SENDING), MemoryNetwork([RECEIVED, SWEPT])
    store.taken = {1}
    assert await Loop(store, network).read_end(SENDING, SWEEP) is None
    assert store.events == ["released"]


async def test_nothing_is_sent_while_an_equal_transfer_is_open() -> None:
    store, network = MemoryStore(PLANNED, is_equal_open=True), MemoryNetwork([RECEIVED])
    assert await Loop(store, network).send(PLANNED, SWEEP, ClaimDeadline(30)) is None
    assert (store.events, network.sent) == (["released"], 0)


async def test_an_intent_that_took_long_to_write_is_looked_for_and_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settle time has begun already: a late transfer could be taken for absent before it is applied."""
    monkeypatch.setattr(transfers, "SEND_WITHIN_S", -1.0)
    store, network = MemoryStore(PLANNED), MemoryNetwork([RECEIVED])
    with pytest.raises(ClaimLost):
        await Loop(store, network).send(PLANNED, SWEEP, ClaimDeadline(30))
    assert (store.events, network.sent) == (["sending"], 0)


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
