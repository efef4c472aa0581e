"""When a part of the stack is started, and started again."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from tellerline.local_stack.servers.part import Part
from tellerline.local_stack.servers.process import NotInstalled, StartFailed
from tellerline.local_stack.supervisor import keeper as keeper_module
from tellerline.local_stack.supervisor.keeper import BACKOFF_S_MAX, FIRST_STARTS_MAX, STEADY_S, Keeper

SIGKILLED = -9


@dataclass
class FakePart(Part):
    name: str = "part-1"
    faults: list[Exception | None] = field(default_factory=list[Exception | None])
    starts: int = 0
    stops: int = 0
    end: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def pids(self) -> Mapping[str, int]:
        return {}

    async def start(self) -> None:
        self.starts += 1
        if self.faults and (fault := self.faults.pop(0)):
            raise fault
        self.end.clear()

    async def ended(self) -> int:
        await self.end.wait()
        return SIGKILLED

    async def stop(self) -> None:
        self.stops += 1


@pytest.fixture(autouse=True)
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Which attempt each wait was asked for; nobody waits."""
    asked: list[int] = []

    def no_wait(attempt: int, *, s_max: float) -> float:
        assert s_max == BACKOFF_S_MAX
        asked.append(attempt)
        return 0.0

    monkeypatch.setattr(keeper_module, "backoff_s", no_wait)
    return asked


def kept(part: FakePart, said: list[str], needs: tuple[Keeper, ...] = ()) -> Keeper:
    return Keeper(part, 0, needs, said.append, lambda: None)


@asynccontextmanager
async def keeping(*keepers: Keeper) -> AsyncGenerator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(keeper.keep()) for keeper in keepers]
        yield
        for task in tasks:
            task.cancel()


async def test_a_part_that_dies_is_started_again_and_it_is_said() -> None:
    said: list[str] = []
    part = FakePart()
    keeper = kept(part, said)
    async with keeping(keeper):
        await keeper.ready.wait()
        part.end.set()
        while part.starts == 1:
            await asyncio.sleep(0)
        await keeper.ready.wait()
    assert part.starts == 2
    assert any("part-1 was ended by SIGKILL; starting it again" in line for line in said)


async def test_a_part_that_never_gets_ready_ends_the_start_with_its_own_words() -> None:
    part = FakePart(faults=[StartFailed("no disk")] * FIRST_STARTS_MAX)
    with pytest.raises(StartFailed, match="no disk"):
        await kept(part, []).keep()
    assert part.starts == FIRST_STARTS_MAX
    assert part.stops == FIRST_STARTS_MAX, "what is half started is stopped before the next try"


async def test_what_is_not_installed_is_not_tried_again() -> None:
    part = FakePart(faults=[NotInstalled("RabbitMQ is missing")])
    with pytest.raises(StartFailed, match="RabbitMQ is missing"):
        await kept(part, []).keep()
    assert part.starts == 1


async def test_a_part_that_was_ready_once_is_tried_for_ever_and_less_and_less_often(attempts: list[int]) -> None:
    part = FakePart(faults=[None, *[StartFailed("broker away")] * (FIRST_STARTS_MAX + 5)])
    keeper = kept(part, [])
    async with keeping(keeper):
        await keeper.ready.wait()
        part.end.set()
        while part.starts < FIRST_STARTS_MAX + 7:
            await asyncio.sleep(0)
        await keeper.ready.wait()
    assert attempts == list(range(FIRST_STARTS_MAX + 6))


async def test_a_part_waits_for_what_it_needs() -> None:
    server, service = FakePart("server"), FakePart("service")
    first = kept(server, [])
    second = kept(service, [], (first,))
    async with keeping(second):
        for _ in range(5):
            await asyncio.sleep(0)
        assert service.starts == 0
        first.ready.set()
        await second.ready.wait()
    assert service.starts == 1


async def test_a_part_that_ran_long_is_started_again_as_soon_as_after_its_first_failure(
    attempts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    part = FakePart()
    keeper = kept(part, [])
    async with keeping(keeper):
        for is_steady in (False, False, True, False):
            await keeper.ready.wait()
            monkeypatch.setattr(keeper_module, "STEADY_S", -1.0 if is_steady else STEADY_S)
            starts = part.starts
            part.end.set()
            while part.starts == starts:
                await asyncio.sleep(0)
    assert attempts == [0, 1, 0, 1]
