"""The stack as a newcomer meets it."""

from tests.system.client import Client, fresh_key
from tests.system.stack import Stack


async def test_a_deposit_and_a_transfer_change_two_balances(client: Client) -> None:
    source, destination = await client.account(funds="10.00"), await client.account()
    moved = await client.transfer(source, destination, "2.50")
    assert moved.status == 201, moved
    assert (await client.balance(source), await client.balance(destination)) == ("7.5", "2.5")


async def test_a_repeat_gets_the_first_answer(client: Client) -> None:
    source, destination, key = await client.account(funds="1.00"), await client.account(), fresh_key()
    first = await client.transfer(source, destination, "0.25", key=key)
    second = await client.transfer(source, destination, "0.25", key=key)
    assert (first.status, second.status, second.replayed) == (201, 201, True)
    assert first.operation_id == second.operation_id
    assert await client.balance(source) == "0.75"


async def test_every_process_tells_its_metrics_and_is_ready(stack: Stack) -> None:
    services = [name for name in stack.facts.pids if name not in {"postgres", "rabbitmq", "epmd"}]
    assert {"gateway-1", "deposit_poller-1", "distributor-1", *stack.worker_names} <= set(services)
    for name in stack.facts.metrics:
        assert await stack.is_ready(name), name
        assert await stack.metric(name, "process_cpu_seconds_total") > 0


async def test_a_killed_worker_is_started_again_and_the_ledger_goes_on(stack: Stack, client: Client) -> None:
    source, destination = await client.account(funds="5"), await client.account()
    await stack.killed("ledger_worker-1")
    assert (await client.transfer_until_decided(source, destination, "1")).status == 201
