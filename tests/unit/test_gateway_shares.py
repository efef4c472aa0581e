"""Shares: nobody takes all there is."""

import asyncio

import pytest

from services.gateway.store.shares import ShareExceeded, Shares

LONG_S = 60.0


async def test_a_caller_has_a_share_and_all_callers_together_leave_some() -> None:
    shares = Shares("reads", together_max=3, each_max=2)
    for caller in ("a", "a", "b"):
        await shares.wait(caller, LONG_S)
    loop = asyncio.get_running_loop()
    waiting = {caller: loop.create_task(shares.wait(caller, LONG_S)) for caller in ("a", "b", "c")}
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting.values())
    shares.give_back("b")
    await asyncio.wait(waiting.values(), return_when=asyncio.FIRST_COMPLETED)
    assert [caller for caller, task in waiting.items() if task.done()] == ["b"]
    shares.give_back("a")
    await asyncio.wait([waiting["a"], waiting["c"]], return_when=asyncio.FIRST_COMPLETED)
    assert [caller for caller, task in waiting.items() if task.done()] == ["a", "b"], "who came first is first"
    shares.give_back("b")
    await waiting["c"]
    for caller in ("a", "a", "c"):
        shares.give_back(caller)
    for caller in ("a", "a", "b"):
        shares.take(caller)


async def test_who_waits_in_vain_leaves_no_trace() -> None:
    shares = Shares("reads", together_max=2, each_max=1)
    shares.take("a")
    with pytest.raises(ShareExceeded, match="of this caller"):
        await shares.wait("a", 0.01)
    shares.take("b")
    with pytest.raises(ShareExceeded, match="too many reads are under way"):
        await shares.wait("c", 0.01)
    gone = asyncio.get_running_loop().create_task(shares.wait("c", LONG_S))
    await asyncio.sleep(0)
    gone.cancel()
    shares.give_back("a")  # before the task that waits knows of its end
    with pytest.raises(asyncio.CancelledError):
        await gone
    shares.give_back("b")
    shares.take("c")
    shares.take("a")


def test_an_amount_fits_whole_or_not_at_all() -> None:
    shares = Shares("bodies", together_max=10, each_max=6)
    shares.take("a", 4)
    with pytest.raises(ShareExceeded) as refused:
        shares.take("a", 3)
    assert refused.value.is_own
    shares.take("b", 5)
    with pytest.raises(ShareExceeded) as refused:
        shares.take("a", 2)
    assert not refused.value.is_own
    shares.give_back("b", 5)
    shares.take("a", 2)
