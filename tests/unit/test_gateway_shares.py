"""Shares of the connections: nobody's reads take them all."""

import asyncio

import pytest

from services.gateway.store.shares import Shares

LONG_S = 60.0


async def test_a_reader_has_a_share_and_all_readers_together_leave_some() -> None:
    shares = Shares(together_max=3, each_max=2)
    for reader in ("a", "a", "b"):
        await shares.take(reader, LONG_S)
    loop = asyncio.get_running_loop()
    waiting = {reader: loop.create_task(shares.take(reader, LONG_S)) for reader in ("a", "b", "c")}
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting.values())
    shares.give_back("b")
    await asyncio.wait(waiting.values(), return_when=asyncio.FIRST_COMPLETED)
    assert [reader for reader, task in waiting.items() if task.done()] == ["b"]
    shares.give_back("a")
    await waiting["c"]
    shares.give_back("c")
    await waiting["a"]
    for reader in ("a", "a", "b"):
        shares.give_back(reader)
    for reader in ("a", "a", "b"):
        await shares.take(reader, LONG_S)


async def test_who_waits_in_vain_leaves_no_trace() -> None:
    shares = Shares(together_max=2, each_max=1)
    await shares.take("a", LONG_S)
    with pytest.raises(TimeoutError):
        await shares.take("a", 0.01)
    await shares.take("b", LONG_S)
    with pytest.raises(TimeoutError):
        await shares.take("c", 0.01)
    shares.give_back("a")
    shares.give_back("b")
    await shares.take("c", LONG_S)
    await shares.take("a", LONG_S)
