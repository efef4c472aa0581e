"""Clients that keep sending transfers while something is done to the stack; nothing that they were told may be lost."""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal

from tests.system.client import UNDECIDED, Answer, Client, fresh_key
from tests.system.stack import Stack

ACCOUNTS, FUNDS = 24, Decimal(100)
AMOUNT = "0.01"
RETRY_S = 0.2
REPEATS_EVERY = 10


@dataclass(slots=True)
class Load:
    """What the clients have seen so far."""

    posted: int = 0
    rejected: int = 0
    # Requests that had to be sent again with the same key, and repeats sent on purpose after the outcome.
    sent_again: int = 0
    repeated: int = 0
    unlike: int = 0
    stopping: bool = False


@asynccontextmanager
async def load(
    client: Client, accounts: Sequence[str], *, clients: int = 16, seed: int = 0, settle_s: float = 90
) -> AsyncGenerator[Load]:
    """Transfers between `accounts` for as long as the block runs; then every command still open gets its outcome.

    Each command is sent with one key until it is decided; one in ten is then repeated and must be answered the same.
    Raises TimeoutError when a command has no outcome `settle_s` after the block.
    """
    seen = Load()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_client(client, accounts, random.Random(f"{seed}/{number}"), seen))
            for number in range(clients)
        ]
        try:
            yield seen
        finally:
            seen.stopping = True
        _, open_still = await asyncio.wait(tasks, timeout=settle_s)
        if open_still:
            raise TimeoutError(f"{len(open_still)} commands had no outcome {settle_s} s after the load ended: {seen}")


async def _client(client: Client, accounts: Sequence[str], lots: random.Random, seen: Load) -> None:
    while not seen.stopping:
        source, destination = lots.sample(list(accounts), 2)
        key = fresh_key("load")
        answer = await _until_decided(client, source, destination, key, seen)
        if answer.status == 201:
            seen.posted += 1
        else:
            seen.rejected += 1
        if lots.randrange(REPEATS_EVERY) == 0:
            again = await _until_decided(client, source, destination, key, seen)
            seen.repeated += 1
            seen.unlike += (again.status, again.operation_id) != (answer.status, answer.operation_id)


async def _until_decided(client: Client, source: str, destination: str, key: str, seen: Load) -> Answer:
    while (answer := await client.transfer(source, destination, AMOUNT, key=key)).status in UNDECIDED:
        seen.sent_again += 1
        await asyncio.sleep(RETRY_S)
    return answer


async def total(client: Client, accounts: Sequence[str]) -> Decimal:
    return sum([Decimal(await client.balance(account)) for account in accounts], Decimal(0))


async def running(stack: Stack, seen: Load, more: int = 50, *, within_s: float = 90) -> None:
    """Waits until the load has had `more` further outcomes: whatever was broken works again."""
    wanted = seen.posted + more

    async def has_more() -> bool:
        return seen.posted >= wanted

    await stack.wait_until(has_more, within_s=within_s)


async def sound(client: Client, accounts: Sequence[str], seen: Load) -> None:
    """Repeats were answered like their originals, and no coin was made or lost. `client` proves the rest."""
    assert seen.posted > 0
    assert seen.repeated > 0
    assert seen.unlike == 0
    assert await total(client, accounts) == FUNDS * ACCOUNTS
