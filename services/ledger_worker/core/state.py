"""A worker's state in memory: accounts and journal position of each partition, and what its partitions share."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

from services.ledger_worker.core.accounts import (
    LEDGER,
    Account,
    AccountFacts,
    Hold,
    asset_of_system_account,
    is_system_name,
)
from services.ledger_worker.core.batch import BatchBuilder, SealedBatch
from services.ledger_worker.core.metadata import KnownMetadata
from services.ledger_worker.core.outcomes import KnownOutcome
from shared.domain.ids import SYSTEM_ACCOUNT_ID, AccountId, AssetCode, HoldId, Partition, partition_of
from shared.domain.lifecycle import InvariantBroken
from shared.messages import Command

DROPPED_AT_ONCE_PART: Final = 16

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(slots=True, eq=False)
class LedgerState:
    """What the partitions of one worker share. `partitions` is their number in the whole ledger."""

    partitions: int
    assets: dict[AssetCode, int] = field(default_factory=dict[AssetCode, int])  # code → scale
    facts: dict[AccountId, AccountFacts] = field(default_factory=dict[AccountId, AccountFacts])  # of other partitions
    recent: dict[str, KnownOutcome] = field(default_factory=dict[str, KnownOutcome])  # command id → its outcome

    def facts_of(self, account: AccountId) -> AccountFacts | None:
        """The facts of another partition's account; None if it does not exist or was not loaded."""
        if is_system_name(account):
            asset = asset_of_system_account(account)
            return AccountFacts(asset) if asset in self.assets else None
        return self.facts.get(account)

    def trim(self, recent_max: int, facts_max: int) -> None:
        """Evicts the oldest items once there are 1/16 more than the bound. They can be read from the journal again."""
        _drop_oldest(self.recent, recent_max)
        _drop_oldest(self.facts, facts_max)


@dataclass(slots=True, eq=False)
class PartitionState:
    """One partition in memory. `batch` is the last batch that was sealed, `committed` the last in the database.

    `cursors`: source partition → its last batch whose transit row was taken in. A partition that `is_draining` is being
    given back: the deliveries already taken for it are finished, and no more are taken.
    """

    ledger: LedgerState
    partition: Partition
    batch: int
    cursors: dict[Partition, int]
    committed: int = 0
    accounts: dict[AccountId, Account] = field(default_factory=dict[AccountId, Account])
    holds: dict[HoldId, Hold] = field(default_factory=dict[HoldId, Hold])
    metadata: dict[AccountId, KnownMetadata] = field(default_factory=dict[AccountId, KnownMetadata])
    builder: BatchBuilder | None = None
    is_draining: bool = False

    def open_batch(self) -> BatchBuilder:
        """The open batch, which is begun if there is none."""
        if self.builder is None:
            self.builder = BatchBuilder(self.partition, self.batch + 1)
        return self.builder

    def seal(self, epoch: int) -> SealedBatch | None:
        """Closes the open batch; None when it would write nothing."""
        builder, self.builder = self.builder, None
        if builder is None or builder.is_empty:
            return None
        self.batch = builder.batch
        return builder.seal(epoch, cursors_text(self.cursors))

    def account(self, account: AccountId) -> Account | None:
        """The account, if it is in memory. A system account that nobody has used yet is opened now, in this batch."""
        known = self.accounts.get(account)
        if known is None and is_system_name(account) and self._is_own(account):
            asset = asset_of_system_account(account)
            if asset not in self.ledger.assets:
                return None
            known = Account(account, asset, LEDGER, is_system=True)
            self.accounts[account] = known
            self.open_batch().add_account(known, None)
        return known

    def visible_account(self, account: AccountId, command: Command) -> Account | None:
        """The account, if it is in memory and the command's principal may debit it and see its balance."""
        known = self.account(account)
        return known if known is not None and is_visible(known, command.principal, admin=command.admin) else None

    def system_account(self, account: AccountId) -> Account:
        """An account of the ledger itself in this partition, opened if need be. Raises InvariantBroken for others."""
        known = self.account(account)
        if known is None:
            raise InvariantBroken(f"{account} is no system account of partition {self.partition}")
        return known

    def trim(self, accounts_max: int) -> None:
        """Evicts holds, metadata and the oldest accounts beyond the bound; no system accounts, nothing uncommitted."""
        excess = len(self.accounts) - accounts_max
        if excess > 0:
            free = (known for known in self.accounts.values() if known.batch <= self.committed and not known.is_system)
            for known in list(islice(free, excess)):
                del self.accounts[known.id]
        if self.holds:
            self.holds = {key: hold for key, hold in self.holds.items() if hold.batch > self.committed}
        if self.metadata:
            self.metadata = {key: known for key, known in self.metadata.items() if known.batch > self.committed}

    def _is_own(self, account: AccountId) -> bool:
        return (
            SYSTEM_ACCOUNT_ID.fullmatch(account) is not None
            and partition_of(account, self.ledger.partitions) == self.partition
        )


def is_visible(account: Account, principal: str, *, admin: bool) -> bool:
    """Whether this principal may debit the account and see its balance."""
    return admin or account.owner == principal


def cursors_text(cursors: Mapping[Partition, int]) -> str:
    """Source partition → batch, as a batch row keeps it: a JSON object."""
    return "{" + ",".join(f'"{partition}":{batch}' for partition, batch in sorted(cursors.items())) + "}"


def read_cursors(text: str) -> dict[Partition, int]:
    """The inverse of `cursors_text`."""
    read: Mapping[str, int] = json.loads(text)
    return {Partition(int(partition)): int(batch) for partition, batch in read.items()}


def _drop_oldest(bounded: dict[Key, Value], size_max: int) -> None:
    # Many at a time: iterating over a dict first skips the slots of keys deleted before. Dropping a few of 200,000 at
    # each commit took 0.15 ms.
    excess = len(bounded) - size_max
    if excess > size_max // DROPPED_AT_ONCE_PART:
        for key in list(islice(bounded, excess)):
            del bounded[key]
