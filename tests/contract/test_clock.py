"""ports.Clock: the machine's and the virtual one."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from services.ledger_worker.clock import SystemClock
from services.ledger_worker.ports import Clock
from tests.twins.clock import Deadlock, LoopClock, run_virtually

Run = Callable[[Coroutine[Any, Any, None]], None]
CLOCKS = [
    pytest.param(SystemClock(), asyncio.run, id="machine"),
    pytest.param(LoopClock(), run_virtually, id="virtual"),
]


@pytest.mark.parametrize(("clock", "run"), CLOCKS)
def test_a_sleep_lasts_as_long_as_was_asked_and_both_clocks_see_it(clock: Clock, run: Run) -> None:
    async def sleep() -> None:
        began_s, began_ns = clock.monotonic_s(), clock.now_ns()
        await clock.sleep(0.02)
        assert clock.monotonic_s() - began_s >= 0.0199
        assert clock.now_ns() - began_ns >= 19_000_000

    run(sleep())


@pytest.mark.parametrize(("clock", "run"), CLOCKS)
def test_shorter_sleeps_end_first(clock: Clock, run: Run) -> None:
    async def race() -> None:
        woken: list[float] = []

        async def sleep(seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append(seconds)

        async with asyncio.TaskGroup() as group:
            for seconds in (0.06, 0.0, 0.03):
                group.create_task(sleep(seconds))
        assert woken == [0.0, 0.03, 0.06]

    run(race())


@pytest.mark.parametrize(("clock", "run"), CLOCKS)
def test_instants_are_nanoseconds_since_1970(clock: Clock, run: Run) -> None:
    async def look() -> None:
        assert 1_600_000_000_000_000_000 < clock.now_ns() < 4_000_000_000_000_000_000

    run(look())


def test_ten_virtual_days_take_no_time_and_a_deadlock_is_found() -> None:
    async def days() -> None:
        await LoopClock().sleep(10 * 86_400)

    async def for_ever() -> None:
        await asyncio.Event().wait()

    run_virtually(days())
    with pytest.raises(Deadlock):
        run_virtually(for_ever())
