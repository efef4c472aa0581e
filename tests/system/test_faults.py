"""Processes die, stop and come back under load; what clients were told stays true."""

import signal

from tests.system.beside import beside
from tests.system.client import Client
from tests.system.load import load, running, sound
from tests.system.stack import Stack

# An owner's id holds its process's.
VALID_LEASES = "SELECT 1 FROM ledger.partitions WHERE owner LIKE $1 AND lease_expires_at > clock_timestamp()"


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


async def test_a_worker_stopped_until_its_leases_expire_is_replaced_and_its_late_commit_refused(
    stack: Stack, client: Client, accounts: list[str]
) -> None:
    async def have_expired() -> bool:
        return not await stack.rows(VALID_LEASES, f"%-{stack.facts.pids['ledger_worker-1']}-%")

    async with load(client, accounts) as seen:
        await running(stack, seen)
        stack.stop("ledger_worker-1")
        if stack.workers > 1:
            await running(stack, seen)  # the others take its partitions over
        await stack.wait_until(have_expired, within_s=30)
        stack.cont("ledger_worker-1")
        await running(stack, seen)
    await sound(client, accounts, seen)
    lost = await stack.metric("ledger_worker-1", "ledger_lease_changes_total", change="lost")
    fenced = await stack.metric("ledger_worker-1", "ledger_fenced_total")
    assert lost + fenced > 0


async def test_a_killed_broker_comes_back_with_every_confirmed_command(
    stack: Stack, client: Client, accounts: list[str]
) -> None:
    async with load(client, accounts) as seen:
        await running(stack, seen)
        await stack.killed("rabbitmq", within_s=60)
        await running(stack, seen)
    await sound(client, accounts, seen)


async def test_postgres_is_restarted_and_no_command_is_lost_or_applied_twice(
    stack: Stack, client: Client, accounts: list[str]
) -> None:
    async with load(client, accounts) as seen:
        await running(stack, seen)
        await stack.killed("postgres", signal.SIGINT, within_s=60)
        await running(stack, seen)
    await sound(client, accounts, seen)
    assert await stack.metric("ledger_worker", "ledger_dead_letters_total") == 0


async def test_postgres_crashes_and_commits_of_unknown_end_are_read_back(
    stack: Stack, client: Client, accounts: list[str]
) -> None:
    before = await stack.metric("ledger_worker", "ledger_unknown_resolved_total")

    async def is_resolved() -> bool:
        """One more crash, until one has met a commit on its way: under load every second or third does."""
        await running(stack, seen)
        await stack.killed("postgres", within_s=60)
        await running(stack, seen)
        return await stack.metric("ledger_worker", "ledger_unknown_resolved_total") > before

    async with load(client, accounts) as seen:
        await stack.wait_until(is_resolved, within_s=300)
    await sound(client, accounts, seen)
    assert await stack.metric("ledger_worker", "ledger_dead_letters_total") == 0


async def test_workers_come_and_go_under_load_and_share_the_partitions_fairly(
    stack: Stack, client: Client, accounts: list[str]
) -> None:
    async with load(client, accounts) as seen:
        await running(stack, seen)
        async with beside(stack, "ledger_worker", 2) as added:
            names = [*stack.worker_names, *(each.name for each in added)]

            async def is_fair() -> bool:
                owned = [await stack.metric(name, "ledger_partitions_owned") for name in names]
                return sum(owned) == stack.partitions and max(owned) - min(owned) <= 1

            await stack.wait_until(is_fair, within_s=30)
            await running(stack, seen)
        await running(stack, seen)
    await sound(client, accounts, seen)
