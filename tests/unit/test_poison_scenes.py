"""One command that cannot be written, among others that can: real commit loop between twins, in virtual time."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from services.ledger_worker.core.batch import SealedBatch
from services.ledger_worker.engine.recovery import STALE_READS_MAX
from services.ledger_worker.ports import RowRefused, StaleRead, StoreFault
from shared.domain.ids import AccountId, Partition
from shared.messages import Command
from tests.property.random_commands import REFUSED
from tests.property.simulated_worker import SimulatedWorker
from tests.twins.proof import prove
from tests.unit.ledger_scene import MAKE, Scene, play

P0 = Partition(0)
# Faster than one group after the other is committed, so that every group has something of it.
EVERY_S = 0.0003
# Virtual seconds. A search through a handful of commands takes a few hundredths.
FOUND_WITHIN_S = 1.0


def poisoned(command: Command) -> Command:
    """The same with a text that the database refuses."""
    return command.model_copy(update={"reference": REFUSED})


@asynccontextmanager
async def traffic(it: Scene, make: Callable[[], Command]) -> AsyncGenerator[None]:
    """Commands that keep coming all the while."""

    async def send() -> None:
        while True:
            it.publish(make())
            await asyncio.sleep(EVERY_S)

    sending = asyncio.get_running_loop().create_task(send())
    await asyncio.sleep(0.1)
    try:
        yield
    finally:
        sending.cancel()


async def decided_soon(it: Scene, commands: Sequence[Command]) -> None:
    began_s = it.clock.monotonic_s()
    await it.until(lambda: all(it.is_replied(command) for command in commands), "not decided")
    assert it.clock.monotonic_s() - began_s < FOUND_WITHIN_S


def test_a_command_that_the_database_refuses_is_found_while_credits_keep_coming_in() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin(workers=2)
        away = await it.away()
        await it.until_done(MAKE.deposit(away, 1_000_000))
        poison, good = poisoned(MAKE.transfer(it.here, it.there, 1)), MAKE.transfer(it.here, it.there, 1)
        async with traffic(it, lambda: MAKE.transfer(away, it.here, 1)):
            it.publish(poison, good)
            await decided_soon(it, [poison, good])
        await it.settled()
        assert (it.code(poison), it.code(good)) == ("internal_error", None)
        assert prove(it.journal) == 0

    play(scene())


@pytest.mark.parametrize("is_here_first", [True, False])
def test_a_command_that_the_database_refuses_is_found_while_another_partition_is_busy(*, is_here_first: bool) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        busy, quiet = (it.here, it.there) if is_here_first else (it.there, it.here)
        poison, good = poisoned(MAKE.withdrawal(quiet, 1)), MAKE.withdrawal(quiet, 1)
        async with traffic(it, lambda: MAKE.deposit(busy, 1)):
            it.publish(poison, good)
            await decided_soon(it, [poison, good])
        await it.settled()
        assert (it.code(poison), it.code(good)) == ("internal_error", None)

    play(scene())


def refuse(worker: SimulatedWorker, command: Command, fault: type[StoreFault], monkeypatch: pytest.MonkeyPatch) -> None:
    """The store refuses what this command leads to, unless that is its rejection."""
    commit = worker.store.commit

    async def committed(batches: Sequence[SealedBatch]) -> dict[Partition, int]:
        if any(row.id == command.id and row.code is None for batch in batches for row in batch.operations):
            raise fault("injected")
        return await commit(batches)

    monkeypatch.setattr(worker.store, "commit", committed)


def test_a_command_that_asks_for_a_key_that_is_taken_is_found_while_another_partition_is_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        poison, good = MAKE.withdrawal(it.there, 1), MAKE.withdrawal(it.there, 1)
        refuse(worker, poison, StaleRead, monkeypatch)
        async with traffic(it, lambda: MAKE.deposit(it.here, 1)):
            it.publish(poison, good)
            await decided_soon(it, [poison, good])
        await it.settled()
        assert (it.code(poison), it.code(good)) == ("internal_error", None)

    play(scene())


def test_what_was_decided_on_a_stale_read_is_decided_again_and_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        command, commit, faults = MAKE.withdrawal(it.here, 1), worker.store.commit, [StaleRead("x")] * STALE_READS_MAX

        async def committed(batches: Sequence[SealedBatch]) -> dict[Partition, int]:
            if faults:
                raise faults.pop()
            return await commit(batches)

        monkeypatch.setattr(worker.store, "commit", committed)
        await it.until_done(command)
        assert (it.code(command), it.broker.dead_letters) == (None, [])

    play(scene())


@pytest.mark.parametrize("count", [1, 2, 30, 1_000])
@pytest.mark.parametrize("commands_max", [1, 3, 4_000])
def test_the_search_ends_however_large_an_envelope_is_against_the_limit(commands_max: int, count: int) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        worker.loop._commands_max = commands_max
        envelope: list[Command] = [MAKE.deposit(it.here, 1) for _ in range(count)]
        envelope[count // 2] = poisoned(envelope[count // 2])
        tried = len(worker.store.commits)
        it.publish(*envelope)
        await it.settled()
        assert it.code(envelope[count // 2]) == "internal_error"
        assert it.balance(it.here) == 1_000 + count - 1
        assert len(worker.store.commits) - tried < 40
        assert worker.loop._room() == commands_max
        assert not worker.loop._recovery.is_active

    play(scene())


def test_several_that_the_database_refuses_are_all_found_and_no_other_is_blamed() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        envelope: list[Command] = [MAKE.transfer(it.here, it.there, 1) for _ in range(60)]
        guilty = {3, 4, 30, 59}
        for place in guilty:
            envelope[place] = poisoned(envelope[place])
        it.publish(*envelope)
        await it.settled()
        assert {place for place, command in enumerate(envelope) if it.code(command) == "internal_error"} == guilty
        assert it.balance(it.here) == 1_000 - 56

    play(scene())


def test_what_fails_only_together_is_committed_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        [worker] = it.workers
        commit = worker.store.commit

        async def committed(batches: Sequence[SealedBatch]) -> dict[Partition, int]:
            if any(batch.lines["settlements"] for batch in batches) and any(batch.operations for batch in batches):
                raise RowRefused("not together")
            return await commit(batches)

        monkeypatch.setattr(worker.store, "commit", committed)
        async with traffic(it, lambda: MAKE.transfer(it.here, it.there, 1)):
            commands = [MAKE.deposit(it.there, 1) for _ in range(5)]
            it.publish(*commands)
            await decided_soon(it, commands)
        await it.settled()
        assert not it.broker.dead_letters
        assert prove(it.journal) == 0

    play(scene())


def test_a_command_of_which_not_even_the_rejection_can_be_written_is_told_no_outcome_and_is_a_dead_letter() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        command, neighbour = MAKE.transfer(it.here, it.there, 1), MAKE.transfer(it.here, it.there, 1)
        it.journal.unwritable.add(command.id)
        for _ in range(2):  # and a repeat is told none either
            it.publish(command, neighbour)
            await it.settled()
            assert (it.is_replied(command), command.id in it.journal.operations) == (False, False)
        assert it.is_replied(neighbour)
        assert len(it.broker.dead_letters) == 2
        assert all(command.id in reason and "no outcome" in reason for _, _, reason in it.broker.dead_letters)
        assert it.balance(AccountId(it.here)) == 999

    play(scene())
