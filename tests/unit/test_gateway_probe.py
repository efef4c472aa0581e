"""A probe asks once for everybody, says soon that there is no answer, and never breaks off its question."""

import asyncio
from dataclasses import dataclass, field

import pytest

from services.gateway.usecases import probe
from services.gateway.usecases.probe import FRESH_S_MAX, NoAnswer, Probe


@dataclass(slots=True)
class Service:
    """Answers with the number of the question, once it may."""

    now_s: float = 100.0
    asked: int = 0
    fault: BaseException | None = None
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_answer.set()

    async def ask(self) -> int:
        self.asked += 1
        number = self.asked
        await self.may_answer.wait()
        if self.fault is not None:
            raise self.fault
        return number

    def clock(self) -> float:
        return self.now_s

    def probe(self) -> Probe[int]:
        return Probe(self.ask, clock=self.clock)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of a second to answer."""
    monkeypatch.setattr(probe, "ANSWER_S_MAX", 0.1)


async def test_all_who_ask_at_once_share_one_question() -> None:
    service = Service()
    probe = service.probe()
    assert await asyncio.gather(*(probe.found() for _ in range(100))) == [1] * 100
    assert service.asked == 1


async def test_an_answer_of_the_probe_is_reused_for_a_second() -> None:
    service = Service()
    probe = service.probe()
    assert await probe.found() == 1
    service.now_s += FRESH_S_MAX
    assert await probe.found() == 1
    service.now_s += 0.01
    assert await probe.found() == 2


@pytest.mark.usefixtures("quick")
async def test_silence_is_told_in_time_then_at_once_and_the_question_goes_on() -> None:
    service = Service()
    service.may_answer.clear()
    probe = service.probe()
    with pytest.raises(NoAnswer):
        await probe.found()
    service.now_s += 60
    async with asyncio.timeout(0.05):
        with pytest.raises(NoAnswer, match=r"none for 60.0 s"):
            await probe.found()
    service.may_answer.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (await probe.found(), service.asked) == (1, 1)


@pytest.mark.parametrize("fault", [ConnectionError("gone"), asyncio.CancelledError(), Exception()], ids=repr)
async def test_whatever_ends_the_question_is_no_answer_and_the_next_one_is_asked_anew(fault: BaseException) -> None:
    service = Service(fault=fault)
    probe = service.probe()
    for _ in range(2):
        with pytest.raises(NoAnswer):
            await probe.found()
    assert service.asked == 1
    service.fault = None
    service.now_s += FRESH_S_MAX + 0.01
    assert await probe.found() == 2


@pytest.mark.usefixtures("quick")
async def test_who_stops_waiting_does_not_break_off_the_question_of_others() -> None:
    service = Service()
    service.may_answer.clear()
    probe = service.probe()
    async with asyncio.TaskGroup() as group:
        first, second = group.create_task(probe.found()), group.create_task(probe.found())
        await asyncio.sleep(0)
        first.cancel()
        service.may_answer.set()
    assert (second.result(), service.asked) == (1, 1)
