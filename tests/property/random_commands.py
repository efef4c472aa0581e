"""Commands as the simulated clients make them: all kinds, some of them repeated, some of which break something."""

import random
from collections.abc import Iterator, Sequence
from itertools import count

from services.ledger_worker.core.decide import deciding_account
from shared.domain.ids import AccountId, AssetCode, Partition, partition_of
from shared.domain.rejections import Rejection
from shared.messages import AccountCreate, Command, HoldPlace
from tests.builders import Commands, command_id
from tests.twins.journal import Journal

ACCOUNTS = 12
RAISES = "breaks the core"
REFUSED = "a NUL: \0"
# Not even the rejection of such a command can be written: whoever publishes it tells the journal.
UNWRITABLE = "cannot be written"
LATE_ACCOUNTS = 4


class RandomCommands:
    """The same for the same seed. `created`: asset → the command that creates it. `journal`: what clients can read."""

    def __init__(self, rng: random.Random, partitions: int, journal: Journal) -> None:
        self._journal = journal
        self._late: dict[str, list[AccountId]] = {}
        self.created: dict[str, Command] = {}
        self._rng = rng
        self._partitions = partitions
        self._make = Commands(partitions=partitions)
        self._keys = (f"fresh-{number}" for number in count())
        self._names = [(AccountId(f"acc-{number}") for number in count()) for _ in range(partitions)]
        self._accounts = [self._account(number % partitions) for number in range(ACCOUNTS)]
        self._placed: list[HoldPlace] = []

    def first(self) -> Iterator[Command]:
        """Opens the accounts."""
        for account in self._accounts:
            yield self._make.open(account, overdraft_limit=self._rng.choice((0, 0, 500)), key=next(self._keys))

    def deposits(self) -> Iterator[Command]:
        """Something for each account."""
        for account in self._accounts:
            yield self._make.deposit(account, self._rng.randrange(1, 2_000), key=next(self._keys))

    def opening(self, partition: Partition) -> AccountCreate:
        """Opens another account of this partition."""
        return self._make.open(self._account(partition), key=next(self._keys))

    def partition_for(self, command: Command) -> Partition:
        """The queue for a command. Those without an account may go to any; assets are created in partition 0."""
        account = deciding_account(command)
        if account is not None:
            return partition_of(account, self._partitions)
        return Partition(0 if command.kind == "asset.create.v1" else self._rng.randrange(self._partitions))

    def next(self, sent: Sequence[tuple[Partition, Command]]) -> Command:
        """One more. `sent`: what was published before, with its queue."""
        rng, make = self._rng, self._make
        here, there = rng.sample(self._accounts, 2)
        amount = rng.randrange(1, 300)
        # Some keys are used again, with the same or other content. No id is random: the seed decides everything.
        fresh = next(self._keys)
        key = f"key-{rng.randrange(60)}" if rng.random() < 0.3 else fresh
        roll = rng.random()
        if roll < 0.10:
            return self._about_no_old_account(sent, fresh)
        if roll < 0.14:
            status = rng.choice(("open", "open", "frozen"))
            return make.update(here, status=status, overdraft_limit=rng.choice((None, 0, 700)), key=fresh)
        if roll < 0.16:
            return make.close(here, key=fresh)
        if roll < 0.20:
            self._placed.append(make.hold(here, amount, destination=rng.choice((None, there)), key=fresh))
            return self._placed[-1]
        if roll < 0.24 and self._placed:
            hold = rng.choice(self._placed)
            is_void = rng.random() < 0.5 or hold.account == there
            return make.void(hold, key=fresh) if is_void else make.capture(hold, there, key=fresh)
        if roll < 0.29:
            return make.deposit(here, amount, key=key)
        if roll < 0.32:
            return make.withdrawal(here, amount, key=key)
        transfer = make.transfer(here, there, amount, key=key)
        if roll < 0.33:
            return transfer.model_copy(update={"reference": REFUSED})
        if roll < 0.332:
            return make.transfer(here, there, amount, key=fresh).model_copy(update={"reference": UNWRITABLE})
        if roll > 0.95 and (late := self._in_a_late_asset(amount, fresh)) is not None:
            return late
        return transfer.model_copy(update={"reference": RAISES}) if roll < 0.34 else transfer

    def _about_no_old_account(self, sent: Sequence[tuple[Partition, Command]], fresh: str) -> Command:
        """A repeat of any command, one that any partition may decide, an asset, or the first account with an asset."""
        rng, make = self._rng, self._make
        roll = rng.random()
        if roll < 0.3:
            return rng.choice(sent)[1].model_copy(update={"repeat": rng.random() < 0.5})
        if roll < 0.6:
            return make.cancel(rng.choice(sent)[1].id if rng.random() < 0.5 else command_id(fresh))
        if roll < 0.7:
            return make.refuse(Rejection.ADDRESS_REFUSED, fresh) if roll < 0.66 else make.decision(fresh)
        if roll < 0.85 or not self.created:
            asset = f"A{len(self.created)}"
            self.created[asset] = make.asset_create(asset, 2, key=fresh)
            return self.created[asset]
        made = Commands(partitions=self._partitions, asset=AssetCode(rng.choice(list(self.created))))
        return made.open(self._account(0), key=fresh)

    def between_partitions(self) -> Command:
        """A transfer of one minor unit from one of the accounts to another."""
        here, there = self._rng.sample(self._accounts, 2)
        return self._make.transfer(here, there, 1, key=next(self._keys))

    def _in_a_late_asset(self, amount: int, fresh: str) -> Command | None:
        """An account, anywhere, with an asset that clients know, or a transfer between two; None without one."""
        assets = [asset for asset in self.created if asset in self._journal.assets]
        if not assets:
            return None
        asset = self._rng.choice(assets)
        made, accounts = Commands(partitions=self._partitions, asset=AssetCode(asset)), self._late.setdefault(asset, [])
        opened = [account for account in accounts if account in self._journal.accounts]
        if len(opened) < 2 and len(accounts) >= LATE_ACCOUNTS:
            return None
        if len(accounts) < LATE_ACCOUNTS:
            accounts.append(self._account(self._rng.randrange(self._partitions)))
            return made.open(accounts[-1], overdraft_limit=10**6, key=fresh)
        here, there = self._rng.sample(opened, 2)
        return made.transfer(here, there, amount, key=fresh)

    def _account(self, partition: int) -> AccountId:
        """A new one of this partition."""
        return next(name for name in self._names[partition] if partition_of(name, self._partitions) == partition)
