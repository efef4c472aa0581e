"""Scenes for the ledger worker's engine: real commit loop and lease keeper between twins, in virtual time."""

from collections.abc import Coroutine
from typing import Any

from shared.domain.ids import AccountId
from shared.messages import Command
from tests.builders import Commands, account_in
from tests.property.simulation import Simulation
from tests.twins.clock import run_virtually

MAKE = Commands()
PARTITIONS = 4


class Scene(Simulation):
    """No faults but those of the scene."""

    def __init__(self) -> None:
        super().__init__(seed=1, partitions=PARTITIONS)
        self.fault_rate, self.delay_max_s, self.is_faulty = 0.0, 0.001, False
        self.here, self.there = account_in(0), account_in(1)

    async def begin(self, *, workers: int = 1) -> None:
        """Workers that own everything, and two accounts with 1,000."""
        for _ in range(workers):
            self.start()
        await self.until_done(*(MAKE.open(account) for account in (self.here, self.there)))
        await self.until_done(*(MAKE.deposit(account, 1_000) for account in (self.here, self.there)))

    async def until_done(self, *commands: Command) -> None:
        """Publishes each in an envelope of its own, and waits until all is decided and settled."""
        for command in commands:
            self.publish(command)
        await self.settled()

    async def settled(self) -> None:
        await self.until(self.is_done, "not everything was decided and settled")

    def code(self, command: Command) -> str | None:
        return self.journal.operations[command.id]["code"]

    def is_replied(self, command: Command) -> bool:
        return (command.id, command.fingerprint) in self.replies.outcomes

    async def away(self) -> AccountId:
        """An account of a worker that does not own `here`; two workers must have begun."""
        await self.until(lambda: len(self.owners()) == 2, "not shared")
        rows = self.journal.owners
        account = account_in(next(p for p in range(PARTITIONS) if rows[p].owner != rows[0].owner))
        await self.until_done(MAKE.open(account))
        return account

    def balance(self, account: AccountId) -> int:
        return int(self.journal.entries[account][-1]["balance_after"] or 0)

    def owners(self) -> set[str | None]:
        return {row.owner for row in self.journal.owners}


def play(scene: Coroutine[Any, Any, None]) -> None:
    run_virtually(scene)
