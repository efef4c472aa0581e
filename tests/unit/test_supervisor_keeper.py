"""When a part of the stack is started, and started again."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from tellerline.servers.process import NotInstalled, StartFailed
from tellerline.supervisor import keeper as keeper_module
from tellerline.supervisor.keeper import BACKOFF_MAX_S, FIRST_STARTS_MAX, Keeper, backoff_s

SIGKILLED = -9


@dataclass
class FakePart:
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
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "BACKOFF_MIN_S", 0.0)


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


async def test_a_part_that_was_ready_once_is_tried_for_ever() -> None:
    part = FakePart(faults=[None, *[StartFailed("broker away")] * (FIRST_STARTS_MAX + 5)])
    keeper = kept(part, [])
    async with keeping(keeper):
        await keeper.ready.wait()
        part.end.set()
        while part.starts < FIRST_STARTS_MAX + 7:
            await asyncio.sleep(0)
        await keeper.ready.wait()


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


def test_the_wait_doubles_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "BACKOFF_MIN_S", 0.2)
    waits = [backoff_s(failures) for failures in range(1, 40)]
    assert waits[:3] == [0.2, 0.4, 0.8]
    assert max(waits) == BACKOFF_MAX_S
    assert waits == sorted(waits)
