"""Processes die, stop and come back under load; what clients were told stays true (facts: ten failures to inject)."""

import asyncio
import signal
from collections.abc import Sequence
from decimal import Decimal

import pytest

from tests.system.client import Client
from tests.system.load import Load, load
from tests.system.stack import Stack

ACCOUNTS, FUNDS = 24, Decimal(100)


@pytest.fixture
async def accounts(client: Client) -> list[str]:
    return await client.accounts(ACCOUNTS, funds=str(FUNDS))


async def total(client: Client, accounts: Sequence[str]) -> Decimal:
    return sum([Decimal(await client.balance(account)) for account in accounts], Decimal(0))


async def running(stack: Stack, seen: Load, more: int = 50) -> None:
    """Waits until the load has had `more` further outcomes: whatever was broken works again."""
    wanted = seen.posted + more

    async def has_more() -> bool:
        return seen.posted >= wanted

    await stack.wait_until(has_more, within_s=90)


async def sound(client: Client, accounts: Sequence[str], seen: Load) -> None:
    """Repeats were answered like their originals, and no coin was made or lost. `client` proves the rest."""
    assert seen.posted > 0
    assert seen.repeated > 0
    assert seen.unlike == 0
    assert await total(client, accounts) == FUNDS * ACCOUNTS


async def test_a_worker_that_is_killed_under_load_loses_nothing(
    stack: Stack, client: Client, accounts: list[str]
) -> None:
    async with load(client, accounts) as seen:
        await running(stack, seen)
        for name in stack.worker_names:
            await stack.killed(name)
            await running(stack, seen)
    await sound(client, accounts, seen)
    assert await stack.metric("ledger_worker", "ledger_redelivered_total") > 0


async def test_a_worker_stopped_for_thirty_seconds_is_replaced_and_its_late_commit_refused(
    stack: Stack, client: Client, accounts: list[str]
) -> None:
    async with load(client, accounts) as seen:
        await running(stack, seen)
        stack.stop("ledger_worker-1")
        if stack.workers > 1:
            await running(stack, seen)  # the others take its partitions over
        await asyncio.sleep(30)  # the rule is about half a minute, not about a condition
        stack.cont("ledger_worker-1")
        await running(stack, seen)
    await sound(client, accounts, seen)
    changes = await stack.metric("ledger_worker-1", "ledger_lease_changes_total")
    assert changes > 0


async def test_a_killed_broker_comes_back_with_every_confirmed_command(
    stack: Stack, client: Client, accounts: list[str]
) -> None:
    async with load(client, accounts) as seen:
        await running(stack, seen)
        await stack.killed("rabbitmq", within_s=60)
        await running(stack, seen)
    await sound(client, accounts, seen)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["restarted", "crashed"])
async def test_postgres_comes_back_and_no_command_is_lost_or_applied_twice(
    stack: Stack, client: Client, accounts: list[str], number: signal.Signals
) -> None:
    async with load(client, accounts) as seen:
        await running(stack, seen)
        await stack.killed("postgres", number, within_s=60)
        await running(stack, seen)
    await sound(client, accounts, seen)
    assert await stack.metric("ledger_worker", "ledger_parked_total") == 0


async def test_workers_come_and_go_under_load_and_share_the_partitions_fairly(
    stack: Stack, client: Client, accounts: list[str]
) -> None:
    async with load(client, accounts) as seen:
        await running(stack, seen)
        async with stack.more_workers(2) as added:
            names = [*stack.worker_names, *added]

            async def is_fair() -> bool:
                owned = [await stack.metric(name, "ledger_partitions_owned") for name in names]
                return sum(owned) == 4 and max(owned) - min(owned) <= 1

            await stack.wait_until(is_fair, within_s=30)
            await running(stack, seen)
        await running(stack, seen)
    await sound(client, accounts, seen)
