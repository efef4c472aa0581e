"""What the tests of the ledger worker have in common."""

import asyncio

from shared.domain.ids import AccountId
from shared.messages import Command
from tests.builders import Commands, account_in
from tests.integration.worker import Ledger

MAKE = Commands()


async def funded(ledger: Ledger, *places: int) -> list[AccountId]:
    """One account in each of these partitions, each with 1,000, made by a worker that is gone again."""
    worker = await ledger.start().ready()
    accounts = [account_in(place) for place in places]
    await ledger.call(*(MAKE.open(account) for account in accounts))
    results = await ledger.call(*(MAKE.deposit(account, 1_000) for account in accounts))
    assert all(result.outcome.status == "posted" for result in results)
    assert await asyncio.to_thread(worker.stop) == 0
    return accounts


async def posted_once(ledger: Ledger, *commands: Command) -> None:
    """Each is in the journal, and the journal holds."""
    for command in commands:
        assert await ledger.outcome(command) == "posted"
    await ledger.prove()
