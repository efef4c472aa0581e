"""A process dies, stops or raises at each line that the code names, under load."""

import os
import signal

import pytest

from shared.runtime.fault_points import FaultPoint
from tests.system.beside import beside
from tests.system.client import Client, client_of, fresh_key
from tests.system.load import load, running, sound
from tests.system.stack import Stack

WORKER_POINTS = [
    point for point in FaultPoint if point.startswith("worker.") and point is not FaultPoint.WORKER_IN_CORE
]
GATEWAY_POINTS = [each for each in FaultPoint if each.startswith("gateway.")]
PASSAGES = 20


@pytest.mark.parametrize("point", WORKER_POINTS)
async def test_a_worker_killed_at_any_point_loses_nothing_and_does_nothing_twice(
    stack: Stack, client: Client, accounts: list[str], point: FaultPoint
) -> None:
    repeats = await stack.metric("ledger_worker", "ledger_duplicates_total")
    fault = f"{point}:{PASSAGES}"
    async with load(client, accounts) as seen, beside(stack, "ledger_worker", fault=fault) as (worker,):
        assert await worker.ended() == -signal.SIGKILL
        assert worker.said(f"fault.hit {point} kill")
        await running(stack, seen)
    await sound(client, accounts, seen)
    if point in {FaultPoint.WORKER_AFTER_COMMIT, FaultPoint.WORKER_AFTER_ANSWER}:
        # Decided, but not acknowledged: whoever took over got the envelopes again, and found every command decided.
        assert await stack.metric("ledger_worker", "ledger_duplicates_total") > repeats


@pytest.mark.parametrize("point", [FaultPoint.WORKER_BEFORE_FENCE, FaultPoint.WORKER_BEFORE_COMMIT])
async def test_a_worker_that_sleeps_through_its_lease_writes_nothing_when_it_wakes(
    stack: Stack, client: Client, accounts: list[str], point: FaultPoint
) -> None:
    fault = f"{point}:{PASSAGES}:stop"
    async with load(client, accounts) as seen, beside(stack, "ledger_worker", fault=fault) as (sleeper,):

        async def sleeps() -> bool:
            return sleeper.said(f"fault.hit {point} stop")

        async def is_replaced() -> bool:
            owned = [await stack.metric(name, "ledger_partitions_owned") for name in stack.worker_names]
            return sum(owned) == stack.partitions

        try:
            await stack.wait_until(sleeps, within_s=60)
            await stack.wait_until(is_replaced, within_s=60)
            await running(stack, seen)
        finally:
            os.kill(sleeper.process.pid, signal.SIGCONT)

        async def was_refused() -> bool:
            return await stack.metric(sleeper.name, "ledger_commit_faults_total") > 0

        await stack.wait_until(was_refused, within_s=30)
        if point is FaultPoint.WORKER_BEFORE_FENCE:
            assert await stack.metric(sleeper.name, "ledger_fenced_total") > 0
        await running(stack, seen)
    await sound(client, accounts, seen)


async def test_a_command_that_breaks_the_core_becomes_a_dead_letter_alone(
    stack: Stack, client: Client, accounts: list[str]
) -> None:
    fault = f"{FaultPoint.WORKER_IN_CORE}:{PASSAGES}:raise"
    async with load(client, accounts) as seen, beside(stack, "ledger_worker", fault=fault) as (worker,):

        async def is_set_aside() -> bool:
            return await stack.metric(worker.name, "ledger_dead_letters_total", reason="poison") > 0

        await stack.wait_until(is_set_aside, within_s=60)
        await running(stack, seen)
    await sound(client, accounts, seen)
    assert seen.rejected == 1
    assert {answer.code for answer in client.told.rejected.values()} == {"internal_error"}


@pytest.mark.parametrize("point", GATEWAY_POINTS)
async def test_a_request_whose_gateway_died_has_one_effect_when_it_is_repeated_at_another(
    stack: Stack, client: Client, point: FaultPoint
) -> None:
    source, destination, key = await client.account(funds="1000"), await client.account(), fresh_key()
    async with beside(stack, "gateway", fault=f"{point}:1") as (gateway,), client_of(stack, base=gateway.url) as other:
        assert (await other.transfer(source, destination, "1", key=key)).status != 201
        assert await gateway.ended() == -signal.SIGKILL
        assert gateway.said(f"fault.hit {point} kill")
        decided = await client.transfer_until_decided(source, destination, "1", key=key)
    assert decided.status == 201
    assert decided.replayed == (point is not FaultPoint.GATEWAY_BEFORE_PUBLISH)
    assert await client.balance(source) == "999"
